"""Orders: what they accept, and what a change of limits comes to."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rota.core.order import ORDER, ChangeLimits, Deploy, Rollback
from rota.core.spec import Limits

MIB = 2**20


def test_the_kind_chooses_the_class() -> None:
    assert ORDER.validate_python({"kind": "rollback", "release": 3}) == Rollback(release=3)


def test_a_deploy_takes_quantities_as_people_write_them() -> None:
    order = ORDER.validate_python(
        {"kind": "deploy", "spec": {"name": "hello", "command": ["x"]}, "policy": {"delay": "3s"}}
    )
    assert isinstance(order, Deploy)
    assert order.policy.delay == 3.0


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ({"memory": "256MiB"}, Limits(memory=256 * MIB, cpus=1.0)),
        ({"memory": None}, Limits(cpus=1.0)),
        ({"memory": "256MiB", "cpus": 0.5}, Limits(memory=256 * MIB, cpus=0.5)),
        ({"cloudlets": 2}, Limits(memory=256 * MIB, cpus=0.8)),
    ],
)
def test_limits_not_given_stay(given: dict[str, object], result: Limits) -> None:
    order = ORDER.validate_python({"kind": "limits", **given})
    assert isinstance(order, ChangeLimits)
    assert order.applied_to(Limits(memory=64 * MIB, cpus=1.0)) == result


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "explode"},
        {"kind": "limits"},
        {"kind": "limits", "cloudlets": 2, "cpus": 1},
        {"kind": "scale", "replicas": 0},
        {"kind": "restart", "policy": {"delay": "301s"}},
        {"kind": "restart", "polisy": {}},
        {"kind": "deploy", "spec": {"name": "hello", "command": ["x"]}, "source": "../../etc/passwd"},
    ],
)
def test_nonsense_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ORDER.validate_python(body)
