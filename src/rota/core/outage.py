"""HAProxy's own outages: what is put on record of one when it is over, and what can be said of what was lost in it.
Called by decide, for the receipt by core.rolling, and by engine.views.

Nobody counts what comes while nobody accepts it (requests wait, TCP connections are refused): that is an estimate, by
what had come before."""

from __future__ import annotations

from dataclasses import replace

from rota.core.observation import Gap, LastLook
from rota.core.quantities import written_seconds
from rota.core.receipt import BALANCER_DOWN
from rota.core.situation import Situation
from rota.core.steps import NoteOutage


def note(here: Situation) -> None:
    """The newest one that is over, once, by an app that was in rotation then."""
    over = [gap for gap in known(here) if gap.until is not None]
    if over and not _is_on_record(here, over[-1]) and _served_before(here, over[-1]):
        here.draft.add(NoteOutage(said(over[-1]), over[-1]))


def known(here: Situation) -> tuple[Gap, ...]:
    """All, with what an earlier daemon has put on record: the last look is that daemon's."""
    return tuple(
        replace(gap, reason=BALANCER_DOWN, before=gap.before or _recorded(here, gap))
        for gap in here.observed.balancer.gaps
    )


def since(here: Situation, moment: float) -> tuple[Gap, ...]:
    """Those of them that came later, or lasted until then, as they are now."""
    return tuple(
        replace(gap, since=max(gap.since, moment), until=gap.until or here.now)
        for gap in known(here)
        if gap.until is None or gap.until > moment
    )


def came_meanwhile(gap: Gap) -> tuple[int, int] | None:
    """About how many requests and TCP connections, if as many as before; None where nobody had looked, or it goes
    on."""
    if gap.before is None or gap.until is None:
        return None
    seconds = gap.until - gap.since
    return round(gap.before.requests * seconds), round(gap.before.connections * seconds)


def said(gap: Gap) -> str:
    """Of one that is over, in a sentence."""
    length, came = written_seconds((gap.until or gap.since) - gap.since), came_meanwhile(gap)
    if gap.before is None or came is None:
        return f"{gap.reason} for {length}; nobody had looked before, so what was lost is not known"
    requests, connections = came
    return (
        f"{gap.reason} for {length}; {gap.before.open:,} requests and connections were open "
        f"{written_seconds(gap.before.ago)} before and cut off, about {requests:,} requests and {connections:,} TCP "
        "connections came meanwhile (estimated by the second before)"
    )


def _is_on_record(here: Situation, gap: Gap) -> bool:
    last = here.recorded.outage
    return last is not None and gap.since <= (last.until or last.since)


def _recorded(here: Situation, gap: Gap) -> LastLook | None:
    """Two outages do not overlap, and the same one may begin some milliseconds later for another daemon."""
    last = here.recorded.outage
    same = last is not None and last.since < (gap.until or here.now) and gap.since < (last.until or here.now)
    return last.before if last is not None and same else None


def _served_before(here: Situation, gap: Gap) -> bool:
    """Somebody was in rotation when it began."""
    return any(
        entry.enabled_at is not None
        and entry.enabled_at < gap.since
        and (entry.disabled_at is None or entry.disabled_at > gap.since)
        for entry in here.recorded.replicas.values()
    )
