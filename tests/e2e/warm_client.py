"""Asks the process of warm.py for one command, in this one's name; run as a script.

Only built-in modules: it is to be there at once."""

import _signal  # signal, without its enumerations
import _socket
import array
import marshal
import os
import sys


def main() -> int:
    asking = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    asking.connect(sys.argv[1])
    order = marshal.dumps((sys.argv[2:], dict(os.environ), os.getcwd()))
    streams = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
    asking.sendmsg([len(order).to_bytes(8, "big")], streams)
    sent = 0
    while sent < len(order):
        sent += asking.send(order[sent:])
    pid = int(_line(asking))
    for number in (_signal.SIGINT, _signal.SIGTERM):
        _signal.signal(number, lambda number, _: os.kill(pid, number))
    return int(_line(asking) or 1)


def _line(asking: _socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = asking.recv(1)
        if not part:
            break
        line += part
    return line


if __name__ == "__main__":
    code = main()
    sys.exit(code if code >= 0 else 128 - code)
