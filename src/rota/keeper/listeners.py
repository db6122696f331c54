"""The sockets that the keeper listens with on a child's behalf: connections that come while the child is started again
wait in them; held by the children.

A program that ends takes its own listening sockets with it, and until its next start the kernel refuses whoever comes.
One that was handed them takes up what waits."""

import os
import re
import socket
from collections.abc import Callable, Mapping

PLACE = re.compile(r"(\*|[0-9.]{7,15}|\[[0-9a-fA-F:.]{2,45}\])?:[0-9]{1,5}", re.ASCII)
"""`127.0.0.1:8080`, `[::1]:8080`, `*:8080` or `:8080`."""


class Listeners:
    """Of one child, each with the variable that tells the child of it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._held: dict[tuple[str, str], socket.socket] = {}

    @property
    def environment(self) -> dict[str, str]:
        """`fd@N` by variable, N being the descriptor's number in the child."""
        return {variable: f"fd@{held.fileno()}" for (variable, _), held in self._held.items()}

    @property
    def descriptors(self) -> frozenset[int]:
        """To be left open in the child."""
        return frozenset(held.fileno() for held in self._held.values())

    def hold(self, places: Mapping[str, str]) -> None:
        """Listen at these, by variable. One that somebody else has, or that this machine has not, is left to the child
        itself."""
        self.keep(places)
        for entry in places.items() - self._held.keys():
            try:
                self._held[entry] = _listen(entry[1])
            except OSError as error:
                self._say(f"{entry[1]} is not held: {error.strerror}")

    def keep(self, places: Mapping[str, str]) -> None:
        """Let go of all others. Nobody may wait where nobody will ever answer, whoever else has the socket too."""
        for entry in self._held.keys() - places.items():
            held = self._held.pop(entry)
            held.shutdown(socket.SHUT_RDWR)
            held.close()

    def close(self) -> None:
        """Whoever waits is refused."""
        self.keep({})


def hand_over(descriptors: frozenset[int]) -> None:
    """In the child: they outlive the beginning of its program."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)


def _listen(place: str) -> socket.socket:
    host, _, port = place.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The child may be told to listen at a place that has this one in it (from 127.0.0.1:8080 to *:8080), before
        # this one is let go of.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host.strip("[]*"), int(port)))
        held.listen(socket.SOMAXCONN)
    except OSError:
        held.close()
        raise
    return held
