"""An order: one thing a person asks of one app; built by the API from a request's body, admitted by
core.admission.

An order holds only what was given: how a rollout then goes by default is core.policy's."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, TypeAdapter, model_validator

from rota.core.durations import Durations
from rota.core.model import Model
from rota.core.quantities import Whole
from rota.core.spec import AppSpec, Limits, Resources, RolloutOptions

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""The SHA-256 of an uploaded source, in hex."""


class SavedPlan(Model):
    """What of a saved plan decides whether it still holds: what it rests on (core.promise), its steps in words, and
    the durations that it was made with."""

    basis: dict[str, JsonValue]
    steps: tuple[Annotated[str, Field(max_length=100)], ...] = Field(max_length=100_000)
    durations: Durations


class _Order(Model):
    """``supersede``: a rollout of the app that is under way is given up for this one, instead of a Conflict.
    ``plan``: a StalePlan, unless this one still holds."""

    supersede: bool = False
    plan: SavedPlan | None = None


class _RollingOrder(_Order):
    policy: RolloutOptions = RolloutOptions()


class Deploy(_RollingOrder):
    """A new release of the app, from this description and, when it is built of a directory, this source."""

    kind: Literal["deploy"] = "deploy"
    spec: AppSpec
    source: Digest | None = None

    @model_validator(mode="after")
    def _pages_are_sent(self) -> Self:
        if any(page.text is None for page in self.spec.error_pages):
            raise ValueError("error_pages: give each page's text; the command line reads the files")
        return self


class Restart(_RollingOrder):
    """Every replica anew, of the release that it has."""

    kind: Literal["restart"] = "restart"


class Redeploy(_RollingOrder):
    """New replicas of the current release, as it was unpacked and built; never in place."""

    kind: Literal["redeploy"] = "redeploy"


class Rollback(_RollingOrder):
    """Back to an earlier release; None is the one before the current one."""

    kind: Literal["rollback"] = "rollback"
    release: Whole | None = Field(default=None, ge=1)


class Scale(_Order):
    """Another number of replicas."""

    kind: Literal["scale"] = "scale"
    replicas: Whole = Field(ge=1, le=1000)


class ChangeLimits(Resources):
    """Other resource limits (V8). Memory or cpus that is not given stays as it is, null lifts that limit."""

    kind: Literal["limits"] = "limits"
    policy: RolloutOptions = RolloutOptions()
    supersede: bool = False
    plan: SavedPlan | None = None

    @model_validator(mode="after")
    def _something_given(self) -> Self:
        if not self.model_fields_set & {"memory", "cpus", "cloudlets"}:
            raise ValueError("give memory, cpus or cloudlets")
        return self

    def applied_to(self, current: Limits) -> Limits:
        """The limits that are asked for, given those in force."""
        if self.cloudlets is not None:
            return self.limits()
        given: dict[str, object] = {
            name: getattr(self, name) for name in ("memory", "cpus") if name in self.model_fields_set
        }
        return current.model_copy(update=given)


class Stop(_Order):
    """No replica runs any more; ``remove`` also removes what the runtime keeps of the stopped ones."""

    kind: Literal["stop"] = "stop"
    remove: bool = False


class Start(_Order):
    """A stopped app runs again, with the releases and counts it had."""

    kind: Literal["start"] = "start"


class Remove(_Order):
    """The app is gone, with its releases and files."""

    kind: Literal["remove"] = "remove"


Order = Annotated[
    Deploy | Restart | Redeploy | Rollback | Scale | ChangeLimits | Stop | Start | Remove,
    Field(discriminator="kind"),
]

ORDER: TypeAdapter[Order] = TypeAdapter(Order)
"""Reads an order from JSON: ``ORDER.validate_python(body)``; raises pydantic.ValidationError."""
