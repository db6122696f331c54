"""A real BIND or Knot with one zone that takes TSIG-signed updates, in a directory and on a port of its own; used by
tests and ended with them."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.tsigkeyring
import dns.update
from dns.message import Message

from rota.adapters.dns.settings import ZoneSettings
from rota.testing.server import free_port

ZONE = "example.test"
KEY = "rota-key"
SECRET = "cm90YSBpcyBub3QgYSBzZWNyZXQgYXQgYWxsISEhISE="  # noqa: S105 - of a server of a test's own
_PATIENCE = 20.0  # seconds

_RECORDS = f"""$ORIGIN {ZONE}.
@ 60 IN SOA ns hostmaster 1 60 10 3600 1
@ 60 IN NS ns
ns 60 IN A 127.0.0.1
foreign 60 IN A 192.0.2.1
alias 60 IN CNAME foreign
"""

_BIND = """
key "{key}" {{ algorithm hmac-sha256; secret "{secret}"; }};
options {{
  directory "{directory}"; pid-file none; session-keyfile none; lock-file none; managed-keys-directory "{directory}";
  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  recursion no; notify no; dnssec-validation no; minimal-responses yes;
}};
controls {{ }};
zone "{zone}" {{ type primary; file "{directory}/zone"; allow-update {{ key "{key}"; }}; }};
"""

_KNOT = """
server:
    rundir: {directory}
    listen: 127.0.0.1@{port}
database:
    storage: {directory}
log:
  - target: stderr
    any: warning
key:
  - id: {key}
    algorithm: hmac-sha256
    secret: {secret}
acl:
  - id: rota
    key: {key}
    action: [update, query]
template:
  - id: default
    storage: {directory}
    file: zone
zone:
  - domain: {zone}
    acl: rota
"""

_COMMANDS = {
    "bind": (_BIND, ["named", "-g", "-c", "{config}", "-n", "1"]),
    "knot": (_KNOT, ["knotd", "-c", "{config}"]),
}


class ZoneServer:
    """``kind`` is bind or knot. Between ``start`` and ``stop``; what was changed stays in between."""

    def __init__(self, kind: str, program: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="rota-"))
        self.directory.chmod(0o755)
        self.port = free_port()
        (self.directory / "zone").write_text(_RECORDS)
        config, command = _COMMANDS[kind]
        file = self.directory / "config"
        file.write_text(config.format(directory=self.directory, port=self.port, key=KEY, secret=SECRET, zone=ZONE))
        self._command = [str(program), *(word.format(config=file) for word in command[1:])]
        self._process: asyncio.subprocess.Process | None = None

    def settings(self, **changes: Any) -> ZoneSettings:
        """As a person would write them for this server."""
        given = {
            "zone": ZONE,
            "server": f"127.0.0.1:{self.port}",
            "key": {"name": KEY, "secret": SECRET},
            "ttl": 1,
        }
        return ZoneSettings.model_validate(given | changes)

    async def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + _PATIENCE
        while not await self._answers():
            if self._process.returncode is not None or time.monotonic() > deadline:
                raise AssertionError((self.directory / "log").read_text())
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            await self._process.wait()

    async def ask(self, name: str, kind: str = "A") -> Message:
        query = dns.message.make_query(f"{name}.{ZONE}", kind, flags=0)
        answer, _ = await dns.asyncquery.udp_with_fallback(query, "127.0.0.1", timeout=5, port=self.port)
        return answer

    async def texts(self, name: str, kind: str = "A") -> list[str]:
        return sorted(record.to_text() for rrset in (await self.ask(name, kind)).answer for record in rrset)

    async def by_hand(self, *changes: tuple[Any, ...]) -> None:
        """As another program with the same key would: ``("add", "web", 60, "A", …)``."""
        keyring = dns.tsigkeyring.from_text({KEY: SECRET})
        update = dns.update.UpdateMessage(ZONE, keyring=keyring, keyname=dns.name.from_text(KEY))
        for call, *rest in changes:
            getattr(update, call)(*rest)
        answer = await dns.asyncquery.tcp(update, "127.0.0.1", timeout=5, port=self.port)
        assert answer.rcode() == dns.rcode.NOERROR

    async def _answers(self) -> bool:
        try:
            query = dns.message.make_query(ZONE, "SOA", flags=0)
            answer = await dns.asyncquery.udp(query, "127.0.0.1", timeout=0.2, port=self.port)
        except (OSError, dns.exception.DNSException):
            return False
        return bool(answer.answer)


@asynccontextmanager
async def running_zone(kind: str, program: Path) -> AsyncIterator[ZoneServer]:
    server = ZoneServer(kind, program)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        shutil.rmtree(server.directory)
