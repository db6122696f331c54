"""What an earlier rota accepted, and this one would not: it is read, and what it breaks is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from rota.core.accepted import Accepted, broken_rules
from rota.core.healthcheck import HealthCheck
from rota.core.options import RolloutOptions
from rota.core.spec import AppSpec, Drain, Limits, Restart
from rota.core.state import Release

WHOLE = AppSpec.model_validate(
    {
        "name": "web",
        "command": ["run"],
        "domains": [{"domain": "a.org", "path": "/x"}],
        "env": [{"name": "A", "value": "1"}],
        "ports": [{"listen": 5432}, {"listen": "127.0.0.1:6379", "port": 7000}],
        "weights": {"1": 50},
        "sticky": True,
        "balance": {"header": "X-User"},
        "resources": {"memory": "64MiB"},
    }
)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"drain": Drain().model_copy(update={"timeout": 9e9})}, "drain.timeout: 0 to 3600 seconds are allowed"),
        ({"restart": Restart().model_copy(update={"attempts": 5000})}, "restart.attempts: at most 1000 is expected"),
        ({"rollout": RolloutOptions().model_copy(update={"parallelism": "0%"})}, "rollout.parallelism"),
        ({"health_check": HealthCheck().model_copy(update={"path": "x y"})}, "health_check.path: "),
        ({"replicas": 0}, "replicas: at least 1 is expected, not 0"),
        ({"command": ()}, "command: "),
        ({"user": "A B"}, "user: 'A B' is not a user name"),
        ({"ports": (WHOLE.ports[0].model_copy(update={"port": 99999}),)}, "ports.0.port: at most 65535 is expected"),
        ({"env": WHOLE.env * 2}, 'env.1.name: "A" is given twice'),
    ],
)
def test_what_breaks_a_rule_is_read_as_it_was_accepted(kept: Mapping[str, Any], said: str) -> None:
    release = Release(1, WHOLE.model_copy(update=kept), None, 0.0, "web.1")
    reader = Accepted(Release)
    text = reader.adapter.dump_json(release).decode()
    with pytest.raises(ValidationError):
        reader.adapter.validate_json(text)
    assert repr(reader.read(text)) == repr(release)
    (first, *_) = broken_rules(release.spec)
    assert first.startswith(said)


def test_what_keeps_all_rules_breaks_none() -> None:
    assert broken_rules(WHOLE) == ()
    assert repr(Accepted(AppSpec).read(WHOLE.model_dump_json())) == repr(WHOLE)


@pytest.mark.parametrize("text", ['{"memory": 1, "later": 1}', '{"memory": "much"}', "{"])
def test_another_shape_is_none_that_was_accepted(text: str) -> None:
    with pytest.raises(ValidationError):
        Accepted(Limits).read(text)


def test_limits_that_were_allowed_once_are_read() -> None:
    assert Accepted(Limits).read('{"memory": 1, "cpus": 1.5}').written() == "memory 9.53674e-07 MiB, cpus 1.5"
