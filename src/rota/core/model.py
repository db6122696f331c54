"""The base of every section of rota.yaml, and the error that points below the field it is found in; used by the modules
that describe the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Switch = Annotated[bool, Field(strict=True)]


class Model(BaseModel):
    """No unknown keys, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_enum_values=False)


def misplaced(message: str, path: Sequence[str | int]) -> PydanticCustomError:
    """An error about something below the field that is checked; ``path`` leads there."""
    return PydanticCustomError("rota", "{message}", {"message": message, "path": tuple(path)})
