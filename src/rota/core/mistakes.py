"""pydantic's kinds of errors as people say them; asked by specfile for a file and by the API for a request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rota.core.quantities import quoted


def in_words(kind: str, found: object, context: Mapping[str, Any]) -> str | None:
    """``kind``, ``found`` and ``context`` are the error's type, input and ctx. None for what is only said where the
    place is known: a list or a section was expected, and something else stands there."""
    match kind:
        case "value_error":
            return str(context["error"])
        case "int_type" | "int_parsing" | "int_from_float":
            return f"a whole number is expected, not {quoted(found)}"
        case "float_type" | "float_parsing" | "finite_number":
            return f"a number is expected, not {quoted(found)}"
        case "bool_type" | "bool_parsing":
            return f"true or false is expected, not {quoted(found)}"
        case "string_type" | "string_unicode":
            return _text_expected(found)
        case "enum" | "literal_error":
            choices = str(context["expected"]).replace("'", "")
            return f"{choices} is expected, not {quoted(found)}"
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than":
            return _bound(kind, found, context)
        case "string_too_long" | "too_long":
            return f"too long: {context['max_length']:,} is the most"
        case "too_short" | "string_too_short":
            return "it is empty"
        case _:
            return None


_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "more than"),
    "less_than": ("lt", "less than"),
}


def _bound(kind: str, found: object, context: Mapping[str, Any]) -> str:
    name, words = _BOUNDS[kind]
    return f"{words} {context[name]:g} is expected, not {quoted(found)}"


def _text_expected(found: object) -> str:
    if isinstance(found, int | float):
        return f"a text is expected; write it with quotes: {json.dumps(str(quoted(found)))}"
    if isinstance(found, str):
        return "a text is expected, and this has a character that none can have"
    return f"a text is expected, not {quoted(found)}"
