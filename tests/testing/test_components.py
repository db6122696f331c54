"""What a machine lacks is skipped where a person looks, and a failure where nobody does."""

from __future__ import annotations

import pytest
import tests.conftest as shared


@pytest.mark.parametrize("lacks", ["_mounts", "_program"])
def test_an_engine_that_cannot_run_fails_where_nobody_would_see_it_skipped(
    lacks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROTA_MISSING_LIST", raising=False)
    monkeypatch.setattr(shared, lacks, lambda *names: None)
    monkeypatch.setattr(shared, "CI", True)
    with pytest.raises(pytest.fail.Exception, match="docker-engine is missing"):
        shared._component("docker-engine")
    monkeypatch.setattr(shared, "CI", False)
    with pytest.raises(pytest.skip.Exception, match="docker-engine is missing"):
        shared._component("docker-engine")


def test_a_condition_of_the_machine_is_never_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROTA_MISSING_LIST", raising=False)
    monkeypatch.setitem(shared.CONDITIONS, "cgroups", (lambda: None, "another machine"))
    monkeypatch.setattr(shared, "CI", True)
    with pytest.raises(pytest.skip.Exception, match="cgroups is missing"):
        shared._component("cgroups")
