"""The operations of the protocol: check the request, ask the children, word the reply; for the server."""

import os
import signal
from collections.abc import Callable
from typing import Any

from .children import Children, RefusedError
from .record import ORDER_KEYS, Record, now
from .shape import MalformedError, check_name, check_order

Request = dict[str, Any]
Reply = dict[str, Any]

_SIGNALS = {one.name.removeprefix("SIG"): int(one) for one in signal.Signals}
_CHANGEABLE = frozenset({"argv", "env", "cgroups", "meta"})


class Requests:
    """Answers one request at a time; raises what says no, or SweepingError to be asked again."""

    def __init__(self, children: Children, keeper_id: str) -> None:
        self._children = children
        self._keeper = {"pid": os.getpid(), "data_dir_id": keeper_id, "started_at": now()}
        self._operations: dict[str, Callable[[Request], Reply]] = {
            "ping": lambda _: {},
            "start": self._start,
            "restart": self._restart,
            "signal": self._signal,
            "forget": self._forget,
            "update": self._update,
            "listen": self._listen,
            "list": self._list,
            "watch": self._list,
            "shutdown": self._shutdown,
        }

    def answer(self, request: Request) -> Reply:
        """The fields of the reply beside `id` and `ok`."""
        operation = request.get("op")
        if not isinstance(operation, str) or operation not in self._operations:
            raise MalformedError(f"unknown op {str(operation)[:80]!r}")
        return self._operations[operation](request)

    def _start(self, request: Request) -> Reply:
        order = check_order(request.get("child"))
        if missing := sorted({"name", "argv"} - set(order)):
            raise MalformedError(f"no {missing[0]!r} in child")
        return {"child": self._children.start(Record(**order)).public()}

    def _restart(self, request: Request) -> Reply:
        name = check_name(request.get("name"))
        changes = {key: request[key] for key in ORDER_KEYS - {"name"} if key in request}
        if fixed := sorted(set(changes) - _CHANGEABLE):
            raise MalformedError(f"{fixed[0]!r} cannot be changed by a restart")
        return {"child": self._children.restart(name, check_order(changes)).public()}

    def _signal(self, request: Request) -> Reply:
        name = check_name(request.get("name"))
        signum = _SIGNALS.get(str(request.get("signal")).removeprefix("SIG"))
        if signum is None:
            raise MalformedError("signal must be a name such as TERM")
        count = self._children.signal(
            name, signum, whole_tree=_flag(request, "tree", False), restart=_flag(request, "restart", True)
        )
        return {"signalled": count}

    def _forget(self, request: Request) -> Reply:
        self._children.forget(check_name(request.get("name")))
        return {}

    def _update(self, request: Request) -> Reply:
        name = check_name(request.get("name"))
        meta = check_order({"meta": request.get("meta")})["meta"]
        return {"child": self._children.update(name, meta).public()}

    def _listen(self, request: Request) -> Reply:
        name = check_name(request.get("name"))
        places = check_order({"listen": request.get("listen")})["listen"]
        return {"child": self._children.listen(name, places).public()}

    def _list(self, _: Request) -> Reply:
        children = [record.public() for record in self._children.records()]
        return {"children": children, "boot_id": self._children.boot_id, "keeper": self._keeper}

    def _shutdown(self, _: Request) -> Reply:
        if busy := self._children.busy():
            raise RefusedError("children-alive", f"alive or to be restarted: {', '.join(sorted(busy)[:20])}")
        self._children.expect_all_swept()
        return {}


def _flag(request: Request, key: str, default: bool) -> bool:
    value = request.get(key, default)
    if not isinstance(value, bool):
        raise MalformedError(f"{key!r} must be true or false")
    return value
