"""The base of every section of rota.yaml, and the error that points below the field it is found in; used by the modules
that describe the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Switch = Annotated[bool, Field(strict=True)]
Words = tuple[Annotated[str, Field(max_length=65536)], ...]


def no_nul(words: Words) -> Words:
    if any("\0" in word for word in words):
        raise ValueError("a command holds no NUL byte")
    return words


Command = Annotated[Words, Field(min_length=1, max_length=10_000), AfterValidator(no_nul)]
"""What is executed, without a shell."""


class Model(BaseModel):
    """No unknown keys, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_enum_values=False)


def misplaced(message: str, path: Sequence[str | int]) -> PydanticCustomError:
    """An error about something below the field that is checked; ``path`` leads there."""
    return PydanticCustomError("rota", "{message}", {"message": message, "path": tuple(path)})
