"""What pydantic finds wrong, in a person's words."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from rota.core import order as o
from rota.core.mistakes import in_words
from rota.core.names import AppName
from rota.core.order import ORDER

LIMITED = Annotated[str, Field(max_length=9)]


def first_mistake(adapter: TypeAdapter[Any], value: object) -> str | None:
    with pytest.raises(ValidationError) as refused:
        adapter.validate_python(value)
    error = refused.value.errors()[0]
    return in_words(error["type"], error["input"], error.get("ctx", {}))


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (int, "x", 'a whole number is expected, not "x"'),
        (int, 1.5, "a whole number is expected, not 1.5"),
        (float, "x", 'a number is expected, not "x"'),
        (bool, "maybe", 'true or false is expected, not "maybe"'),
        (str, 1, 'a text is expected; write it with quotes: "1"'),
        (str, [], "a text is expected, not a list"),
        (
            Annotated[str, Field(max_length=9)],
            "\ud800",
            "a text is expected, and this has a character that none can have",
        ),
        (AppName, "A", "'A' is not an app name: 1 to 40 of a-z, 0-9 and '-', neither first nor last a '-'"),
        (list[int], 1, None),
    ],
)
def test_each_kind_has_words(kind: Any, value: object, said: str | None) -> None:
    assert first_mistake(TypeAdapter(kind), value) == said


@pytest.mark.parametrize(("kind", "bound"), [("greater_than", "gt"), ("less_than", "lt")])
def test_bounds_are_told(kind: str, bound: str) -> None:
    words = "more" if bound == "gt" else "less"
    assert in_words(kind, 5, {bound: 5}) == f"{words} than 5 is expected, not 5"


@pytest.mark.parametrize("count", [True, "3", 3.0])
def test_a_count_is_a_whole_number_and_nothing_that_could_be_taken_for_one(count: object) -> None:
    """``true`` would be one replica."""
    said = first_mistake(ORDER, {"kind": "scale", "replicas": count})
    assert said is not None
    assert said.startswith("a whole number is expected, not ")
    assert first_mistake(ORDER, {"kind": "rollback", "release": count}) == said
    assert o.Scale(replicas=3).replicas == 3
