"""How far a pull is, of what an engine says line by line."""

from __future__ import annotations

from rota.adapters.runtime.docker.pulls import Pull

MIB = 2**20


def downloading(layer: str, current: int, total: int) -> dict[str, object]:
    return {"status": "Downloading", "id": layer, "progressDetail": {"current": current, "total": total}}


def test_layers_are_added_up_as_they_are_known() -> None:
    pull = Pull("ghcr.io/me/app:1")
    pull.add({"status": "Pulling from me/app", "id": "1"})
    pull.add({"status": "Already exists", "progressDetail": {}, "id": "a"})
    assert pull.said == "pulling ghcr.io/me/app:1"
    pull.add(downloading("b", 2 * MIB, 8 * MIB))
    pull.add(downloading("c", 1 * MIB, 4 * MIB))
    pull.add(downloading("b", 6 * MIB, 8 * MIB))
    assert pull.said == "pulling ghcr.io/me/app:1: 7.0 of 12.0 MiB"
    pull.add({"status": "Download complete", "progressDetail": {}, "id": "b"})
    pull.add({"status": "Extracting", "progressDetail": {"current": 1, "total": 8 * MIB}, "id": "b"})
    assert pull.said == "pulling ghcr.io/me/app:1: 9.0 of 12.0 MiB"
    pull.add({"status": "Pull complete", "id": "c"})
    assert pull.said == "pulling ghcr.io/me/app:1: 12.0 of 12.0 MiB"


def test_a_line_without_details_changes_nothing() -> None:
    pull = Pull("x")
    pull.add({"status": "Downloading"})
    pull.add(downloading("a", 0, 0))
    assert pull.said == "pulling x"
