"""One run of apprise in a process of its own: reads one order from stdin, says on the last line of stdout how it went.
Started by notifier, which may end it at any moment.

Apprise blocks, takes half a second to load and gives its reasons to its log alone: a process can be ended, a thread
cannot, and what its log says is of this letter. Addresses are secret, so they come by stdin and not as arguments."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rota.adapters.tied import end_with
from rota.core.redaction import shown

if TYPE_CHECKING:
    from apprise import NotifyBase

_LINE = re.compile(r"^\S+ \S+ - (WARNING|ERROR|DEBUG) - (.*)$")
_CAUSE = "Socket Exception: "  # the one line for debugging that says why, and holds no secret
_HOOKS = frozenset({"jsons", "xmls", "forms"})  # plain web hooks: these take headers of ours


def main() -> int:
    order = json.load(sys.stdin)
    end_with(order["parent"])  # what it was to send is sent by the next daemon; this one had better not arrive as well
    answer = _check(order["urls"]) if "urls" in order else _send(order)
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    return 0


def _check(urls: list[str]) -> dict[str, str]:
    return next(({"refused": _unknown(url)} for url in urls if _service(url) is None), {})


def _send(order: Mapping[str, str]) -> dict[str, str]:
    import apprise

    url, service = order["url"], _service(order["url"])
    if service is None:
        return {"failed": _unknown(url)}
    _name(service, order["name"])
    with apprise.LogCapture(level=logging.DEBUG) as log:  # type: ignore[no-untyped-call]
        try:
            taken = service.notify(body=order["body"], title=order["title"], body_format=apprise.NotifyFormat.TEXT)
        except TypeError as error:  # its word for a notice without any text
            return {"failed": f"{shown(url)}: {error}"}
        said = log.getvalue()
    return {} if taken else {"failed": f"{shown(url)}: {_reason(said) or 'it was not taken'}"}


def _service(url: str) -> NotifyBase | None:
    import apprise

    logging.getLogger("apprise").propagate = False  # its reasons are said once, without secrets, by us
    with apprise.LogCapture(level=logging.ERROR):  # type: ignore[no-untyped-call]
        service = apprise.Apprise.instantiate(url)
    return service if isinstance(service, apprise.NotifyBase) else None


def _unknown(url: str) -> str:
    return (
        f"{shown(url)} is not an address that notices can be sent to; write it as mailto://…, json://… or another "
        "of apprise's URLs"
    )


def _name(service: NotifyBase, name: str) -> None:
    """The same for each try of one letter, so that who gets it twice can tell. Apprise makes each mail's own anew, and
    has no option for it."""
    import apprise.plugins.email.base as mail

    if hasattr(mail, "make_msgid"):
        vars(mail)["make_msgid"] = lambda domain=None: f"<{name}@{domain or 'rota'}>"
    headers: Any = getattr(service, "headers", None)
    if getattr(service, "secure_protocol", None) in _HOOKS and isinstance(headers, dict):
        headers.setdefault("Idempotency-Key", name)


def _reason(log: str) -> str:
    """What apprise says of a failure, in one line."""
    found = [match for match in map(_LINE.match, log.splitlines()) if match is not None]
    said = [match[2] for match in found if match[1] != "DEBUG" or match[2].startswith(_CAUSE)]
    return "; ".join(text.removeprefix(_CAUSE).rstrip(".") for text in said)[:500]


if __name__ == "__main__":
    sys.exit(main())
