"""An image's own HEALTHCHECK: read once, kept over a restart of the daemon, and made by rota, never by the engine."""

from __future__ import annotations

from typing import Any

import pytest

from rota.adapters.runtime.docker.healthcheck import check_of
from rota.core.healthcheck import ImageCheck
from rota.testing.dock import Dock, box_spec
from rota.testing.images import busybox


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, None),
        (None, None),
        ({"Healthcheck": None}, None),
        ({"Healthcheck": {"Test": []}}, None),
        ({"Healthcheck": {"Test": ["NONE"]}}, None),
        ({"Healthcheck": {"Test": ["CMD"]}}, None),
        ({"Healthcheck": {"Test": ["CMD", "pg_isready", "-q"]}}, ImageCheck(("pg_isready", "-q"))),
        ({"Healthcheck": {"Test": ["CMD-SHELL", "a || b"]}}, ImageCheck(("/bin/sh", "-c", "a || b"))),
        (
            {"Healthcheck": {"Test": ["CMD-SHELL", "a"]}, "Shell": ["/bin/bash", "-ec"]},
            ImageCheck(("/bin/bash", "-ec", "a")),
        ),
        (
            {
                "Healthcheck": {
                    "Test": ["CMD", "a"],
                    "Interval": 5_000_000_000,
                    "Timeout": 500_000_000,
                    "StartPeriod": 60_000_000_000,
                    "StartInterval": 1_000_000_000,
                    "Retries": 7,
                }
            },
            ImageCheck(("a",), interval=5.0, timeout=0.5, retries=7, start_period=60.0, start_interval=1.0),
        ),
        ({"Healthcheck": {"Test": ["CMD", "a"], "Interval": 0, "Retries": 0}}, ImageCheck(("a",))),
    ],
)
def test_what_an_image_says_of_its_health(config: dict[str, Any] | None, expected: ImageCheck | None) -> None:
    assert check_of({"Config": config}) == expected


@pytest.mark.feature("W5")
async def test_an_images_check_is_known_and_the_engine_does_not_make_it(box: Dock) -> None:
    said = "HEALTHCHECK --interval=7s --retries=9 CMD test -e /tmp/well"
    box.engine.import_image("test/checked:1", busybox(), 'CMD ["sleep", "60"]', said)
    await box.started(box_spec(image={"repository": "test/checked", "tag": "1", "pull": "never"}))
    expected = ImageCheck(("/bin/sh", "-c", "test -e /tmp/well"), interval=7.0, retries=9)
    assert (await box.runtime.observe("web"))[1]["web", 1].check == expected
    container = await box.inspect("web-1")
    assert container["Config"]["Healthcheck"]["Test"] == ["NONE"]
    assert "Health" not in container["State"]
    await box.close()
    await box.open()
    assert (await box.runtime.observe("web"))[1]["web", 1].check == expected
