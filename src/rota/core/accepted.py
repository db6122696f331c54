"""What was accepted once, read again: a rota whose rules became stricter reads what an earlier one took, and says what
it would not take now. Called by the store and the runtimes for what they wrote themselves; a person's input is held to
every rule.

A model's schema has two parts: shapes (a number, a section with these keys) and rules (bounds, patterns, validators
that run after). Without the rules it still turns away what has another shape, such as a later rota's key, which would
be lost when it is written again."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, SchemaValidator, core_schema

from rota.core.mistakes import in_words
from rota.core.model import Model

T = TypeVar("T")

_BOUNDS = frozenset(
    {"ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern", "allow_inf_nan"},
)
_NO_SCHEMAS = frozenset({"metadata", "serialization", "default", "expected", "members"})


class Accepted(Generic[T]):
    """The reader of one kind of what rota has written as JSON."""

    def __init__(self, kind: type[T]) -> None:
        self.adapter = TypeAdapter(kind)

    def read(self, text: str) -> T:
        """By all rules where they hold, else by the shapes alone. Raises ValidationError, which is the rules' own."""
        try:
            return self.adapter.validate_json(text)
        except ValidationError as broken:
            try:
                return cast(T, self._by_shape.validate_json(text))
            except ValidationError:
                raise broken from None

    @cached_property
    def _by_shape(self) -> SchemaValidator:
        return SchemaValidator(_without_rules(self.adapter.core_schema))


def broken_rules(kept: Model) -> tuple[str, ...]:
    """Each with its key, as a person would be told who wrote it into a file now."""
    try:
        type(kept).model_validate_json(kept.model_dump_json())
    except ValidationError as error:
        return tuple(map(_said, error.errors(include_url=False)))
    return ()


def _said(mistake: ErrorDetails) -> str:
    context = mistake.get("ctx", {})
    path = ".".join(map(str, (*mistake["loc"], *context.get("path", ()))))
    words = in_words(mistake["type"], mistake["input"], context)
    return f"{path}: {words or mistake['msg']}"


def _without_rules(schema: Any) -> Any:
    if isinstance(schema, list | tuple):
        return type(schema)(map(_without_rules, schema))
    if not isinstance(schema, dict):
        return schema
    below = {key: value if key in _NO_SCHEMAS else _without_rules(value) for key, value in schema.items()}
    return below if not isinstance(schema.get("type"), str) else _without_own(below)


def _without_own(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a schema that has no rules below it any more."""
    named = {"ref": schema["ref"]} if "ref" in schema else {}
    match schema["type"]:
        case "function-after":
            return {**schema["schema"], **named}
        case "function-before":  # it turns what people write into what rota writes, which needs no turning
            plain: Any = {key: value for key, value in schema.items() if key != "ref"}
            return {**core_schema.union_schema([plain, schema["schema"]], mode="left_to_right"), **named}
        case "model":  # one that is named by its class is validated by the class, whatever stands here
            made = core_schema.no_info_after_validator_function(_made(schema["cls"]), schema["schema"])
            return {**made, **named}
        case "model-fields":
            return schema | {"extra_behavior": Model.model_config["extra"]}
        case _:
            return {key: value for key, value in schema.items() if key not in _BOUNDS}


def _made(kind: type[Model]) -> Callable[[tuple[dict[str, Any], None, set[str]]], Model]:
    """Of what the schema of its fields gives."""
    return lambda found: kind.model_construct(found[2], **found[0])
