"""How much of an app's requests the replica of a slot gets beside the others: ``weights:`` in rota.yaml; read by spec,
kept by a slot's target."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from rota.core.model import misplaced
from rota.core.quantities import quoted

USUAL = 100
MOST = 256  # HAProxy's own bound
MOST_SLOTS = 1000

SlotWeights = tuple[tuple[int, int], ...]
"""(slot, weight), by slot; a slot that is not there has the usual one."""


def weight_of(weights: SlotWeights, slot: int) -> int:
    return dict(weights).get(slot, USUAL)


def within(weights: SlotWeights, replicas: int) -> SlotWeights:
    """Raises for a slot that an app of so many replicas does not have."""
    for slot, _ in weights:
        if slot > replicas:
            raise misplaced(f"there is no slot {slot}: replicas is {replicas}", [str(slot)])
    return weights


def _pairs(value: object) -> object:
    """In the file a section of slots and weights; in the API's JSON, once read, a list of pairs."""
    if isinstance(value, Mapping):
        return tuple((_slot(str(slot)), weight) for slot, weight in value.items())
    if isinstance(value, list | tuple) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        return value
    raise ValueError(f"a section of slots and weights is expected, such as {{1: 50, 3: 200}}, not {quoted(value)}")


def _slot(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_SLOTS)) else 0
    if not 1 <= number <= MOST_SLOTS or text != str(number):
        raise misplaced(f"a slot is expected, 1 to {MOST_SLOTS}, not {quoted(text)}", [text])
    return number


def _checked(given: tuple[tuple[Any, Any], ...]) -> SlotWeights:
    weights = tuple(sorted(((_slot(str(slot)), weight) for slot, weight in given), key=itemgetter(0)))
    for slot, weight in weights:
        if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= MOST:
            raise misplaced(f"{_expected(weight)}, not {quoted(weight)}", [str(slot)])
    if len(dict(weights)) < len(weights):
        raise ValueError("a slot is given twice")
    return tuple((slot, weight) for slot, weight in weights if weight != USUAL)


def _expected(weight: object) -> str:
    rest = "; to send a slot nothing, run fewer replicas" if weight == 0 and weight is not False else ""
    return f"1 to {MOST} is expected, {USUAL} being the usual share{rest}"


Weights = Annotated[
    tuple[tuple[Any, Any], ...],
    BeforeValidator(_pairs),
    AfterValidator(_checked),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"pattern": "^[1-9][0-9]{0,3}$"},
            "additionalProperties": {"type": "integer", "minimum": 1, "maximum": MOST},
            "default": {},
            "examples": [{1: 50, 3: 200}],
        }
    ),
]
