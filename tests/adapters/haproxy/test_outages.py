"""What HAProxy had said last before it was not running, by app."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rota.adapters.balancer.haproxy.launcher import Run
from rota.adapters.balancer.haproxy.outages import Outages
from rota.adapters.balancer.haproxy.stats import BackendReading, Reading
from rota.core.errors import StepFailed
from rota.core.observation import Gap, LastLook

FIRST, SECOND = Run(1, 0.0, 10.0, "it ended", 0.0), Run(2, 10.1, None, "", 10.2)


class Lives:
    """HAProxy's, as its parent tells them."""

    def __init__(self, *runs: Run) -> None:
        self.told: Sequence[Run] | StepFailed = runs

    async def ensure(self, argv: Sequence[str], listen: Mapping[str, str]) -> None: ...

    async def listen(self, listen: Mapping[str, str]) -> None: ...

    async def runs(self) -> Sequence[Run]:
        if isinstance(self.told, StepFailed):
            raise self.told
        return self.told

    def on_exit(self, wake: Callable[[], None]) -> None: ...

    async def stop(self) -> None: ...


class Told:
    """Of each backend, a name of an app and a digest, what was open and what had come in the last second."""

    def __init__(self, **counts: tuple[int, int]) -> None:
        rows = (
            BackendReading(name.replace("_", "."), 0, 0, 0, 0, 0, open=there, came=came, connected=len(name))
            for name, (there, came) in counts.items()
        )
        self._rows = {row.name: row for row in rows}

    def of(self, app: str) -> Reading:
        return Reading(backends={name: row for name, row in self._rows.items() if name.startswith(f"{app}.")})


async def test_a_look_before_it_is_told_by_app_over_all_backends_and_processes() -> None:
    lives = Lives(Run(1, 0.0))
    outages = Outages(lives)
    await outages.look()
    outages.read(9.5, [Told(web_a=(2, 40), web_b=(1, 10), shop_a=(0, 7)), Told(web_a=(5, 0))])
    assert outages.of("web") == ()
    lives.told = [FIRST, SECOND]
    await outages.look()
    outages.read(10.3, [Told(web_a=(9, 9))])
    assert outages.of("web") == (Gap(10.0, 10.2, "it ended", LastLook(0.5, 8, 50, 15)),)
    assert outages.of("shop")[0].before == LastLook(0.5, 0, 7, 6)
    assert outages.of("another")[0].before is None


async def test_one_that_lasts_is_told_with_the_same_look() -> None:
    lives = Lives(Run(1, 0.0))
    outages = Outages(lives)
    outages.read(9.5, [Told(web_a=(1, 2))])
    lives.told = [FIRST]
    await outages.look()
    assert outages.of("web") == (Gap(10.0, None, "it ended", LastLook(0.5, 1, 2, 5)),)
    lives.told = [FIRST, SECOND]
    await outages.look()
    assert outages.of("web") == (Gap(10.0, 10.2, "it ended", LastLook(0.5, 1, 2, 5)),)


async def test_what_the_next_process_says_is_of_no_outage_before_it() -> None:
    lives = Lives(FIRST, SECOND)
    outages = Outages(lives)
    outages.read(10.3, [Told(web_a=(1, 2))])
    await outages.look()
    assert outages.of("web") == (Gap(10.0, 10.2, "it ended"),)


async def test_while_nobody_tells_what_is_known_stands() -> None:
    lives = Lives(FIRST, SECOND)
    outages = Outages(lives)
    await outages.look()
    lives.told = StepFailed("the keeper does not answer")
    await outages.look()
    assert outages.of("web") == (Gap(10.0, 10.2, "it ended"),)
    lives.told = [SECOND]
    await outages.look()
    assert outages.of("web") == ()
