"""The flags that every rollout-making command takes, written down once; a command takes them by ``@taking(Policy)``
and is given them as one value."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from typer import Option

from rota.cli import plan_file
from rota.core.errors import UsageError

_PANEL = "How the rollout goes"


def _flag(*names: str, help: str, metavar: str | None = None) -> Any:
    return Option(*names, help=help, metavar=metavar, rich_help_panel=_PANEL)


@dataclass(frozen=True)
class Waiting:
    """What every rollout-making command takes."""

    supersede: Annotated[bool, _flag("--supersede", help="Give up a rollout under way for this one.")] = False
    fail_on_loss: Annotated[bool, _flag("--fail-on-loss", help="Exit with 7 if a request was lost.")] = False
    wait: Annotated[bool, _flag("--wait/--detach", help="Wait for the end, or print the rollout's id.")] = True
    json: Annotated[bool, _flag("--json", help="Print JSON.")] = False

    def order(self, kind: str, **more: Any) -> dict[str, Any]:
        """The request that begins a rollout of this kind."""
        return {"kind": kind, **more} | ({"supersede": True} if self.supersede else {})


@dataclass(frozen=True)
class Policy(Waiting):
    """The flags as given; the server judges their values and has the defaults."""

    sequential: Annotated[bool, _flag("--sequential", help="One replica after the other, 30 s apart.")] = False
    simultaneous: Annotated[bool, _flag("--simultaneous", help="All at once: fastest, with a gap in service.")] = False
    parallelism: Annotated[str | None, _flag("--parallelism", help="Replicas at a time: N or N%.")] = None
    delay: Annotated[str | None, _flag("--delay", help="Pause between replicas, 0 to 300s.")] = None
    order_of_steps: Annotated[
        Literal["start-first", "stop-first", "in-place"] | None,
        _flag("--order", help="Whether the new replica or the end of the old one comes first."),
    ] = None
    min_available: Annotated[int | None, _flag("--min-available", help="Replicas that always serve.")] = None
    remove_from_dns: Annotated[
        bool | None,
        _flag(
            "--remove-from-dns/--keep-in-dns", help="Whether a replica leaves DNS, and its TTL passes, before it goes."
        ),
    ] = None
    failure_action: Annotated[
        Literal["rollback", "pause", "continue"] | None,
        _flag("--failure-action", help="What follows when a new replica fails."),
    ] = None
    plan: Annotated[
        Path | None, _flag("--plan", metavar="FILE", help="A saved plan (rota plan -o): refused if it no longer holds.")
    ] = None

    monitor: Annotated[str | None, _flag("--monitor", help="How long a new replica's failure counts.")] = None
    max_failure_ratio: Annotated[
        float | None, _flag("--max-failure-ratio", help="The share of replicas that may fail, 0 to 1.")
    ] = None
    progress_deadline: Annotated[
        str | None, _flag("--progress-deadline", help="The longest time without progress.")
    ] = None

    def options(self) -> dict[str, Any]:
        """The given ones, as RolloutOptions takes them. Raises UsageError."""
        if self.sequential and self.simultaneous:
            raise UsageError("--sequential and --simultaneous contradict each other; give one")
        given: dict[str, Any] = {
            "mode": "sequential" if self.sequential else "simultaneous" if self.simultaneous else None,
            "parallelism": self.parallelism,
            "delay": self.delay,
            "order": self.order_of_steps,
            "min_available": self.min_available,
            "remove_from_dns": self.remove_from_dns,
            "failure_action": self.failure_action,
            "monitor": self.monitor,
            "max_failure_ratio": self.max_failure_ratio,
            "progress_deadline": self.progress_deadline,
        }
        return {name: value for name, value in given.items() if value is not None}

    def order(self, kind: str, **more: Any) -> dict[str, Any]:
        return plan_file.attached(self.plan, super().order(kind, policy=self.options(), **more))


_Flags = TypeVar("_Flags", bound=Waiting)


def taking(
    kind: type[_Flags], without: frozenset[str] = frozenset()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the flags of ``kind``, but for those ``without``, to a command whose last parameter, ``flags``, is given
    them as one."""
    names = [field.name for field in fields(kind) if field.name not in without]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "flags"]

        @functools.wraps(command)
        def with_flags(**given: Any) -> None:
            flags = kind(**{name: given.pop(name) for name in names})
            command(**given, flags=flags)

        _show(with_flags, [*own, *(p for p in _parameters(kind) if p.name in names)])
        return with_flags

    return decorate


def _parameters(kind: type[Waiting]) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(kind)
    ]


def _show(command: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Typer reads a command's parameters from its signature and its annotations; both must say the same."""
    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    command.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del command.__wrapped__  # type: ignore[attr-defined]
