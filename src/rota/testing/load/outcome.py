"""How one request ended, and which system error means which ending; client and tally use it."""

import errno
from dataclasses import dataclass
from enum import StrEnum

OWN_ERRNOS = frozenset((errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM))


class Ending(StrEnum):
    """How a request ended; all but OK and OWN are lost."""

    OK = "ok"
    REFUSED = "refused"
    """Nobody listened."""
    UNREACHABLE = "unreachable"
    """Any other failure to connect."""
    RESET = "reset"
    """Reset before the first byte of the answer."""
    CLOSED = "closed"
    """Closed in order before the first byte of the answer."""
    BROKEN = "broken"
    """The answer began and did not end, or was no HTTP."""
    TIMEOUT = "timeout"
    """No complete answer in time."""
    STATUS = "status"
    """An answer with another status than 200."""
    WRONG_BODY = "wrong-body"
    """200 with a body that is not the expected one."""
    OWN = "own"
    """The generator's own machine lacked files, ports or memory: says nothing about the server."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request's ending, with what is known about who answered."""

    ending: Ending
    status: int | None = None
    replica: str | None = None
    release: str | None = None
    detail: str = ""

    @property
    def kind(self) -> str:
        """The name under which it is counted, such as `closed` or `status-503`."""
        return f"status-{self.status}" if self.ending is Ending.STATUS else self.ending.value


def connect_failure(error: OSError | MemoryError) -> Outcome:
    """The outcome of a connection that could not be made."""
    detail = str(error)
    if isinstance(error, MemoryError) or error.errno in OWN_ERRNOS:
        return Outcome(Ending.OWN, detail=detail)
    if isinstance(error, ConnectionRefusedError):
        return Outcome(Ending.REFUSED, detail=detail)
    if isinstance(error, ConnectionResetError):
        return Outcome(Ending.RESET, detail=detail)
    return Outcome(Ending.UNREACHABLE, detail=detail)


def connection_failure(error: Exception | None, answer_began: bool) -> Outcome:
    """The outcome of a request whose connection ended under it; `error` None is an orderly close."""
    detail = str(error) if error else ""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in OWN_ERRNOS):
        return Outcome(Ending.OWN, detail=detail)
    if answer_began:
        return Outcome(Ending.BROKEN, detail=detail or "closed in the middle of the answer")
    return Outcome(Ending.CLOSED if error is None else Ending.RESET, detail=detail)
