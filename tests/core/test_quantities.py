"""Times and sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.quantities import quoted, seconds, size, written_seconds


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("10m", 600.0),
        ("1.5h", 5400.0),
        ("1d", 86400.0),
        (" 7 ", 7.0),
        (2, 2.0),
        (0, 0.0),
    ],
)
def test_times(written: object, expected: float) -> None:
    assert seconds(written) == pytest.approx(expected)


@pytest.mark.parametrize("wrong", [True, -1, "", "soon", "-1s", "1 s", None, [], float("nan"), float("inf"), "9" * 400])
def test_what_is_no_time(wrong: object) -> None:
    with pytest.raises(ValueError, match="a time is expected, such as 500ms"):
        seconds(wrong)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("512MiB", 2**29), ("1g", 10**9), ("1 GB", 10**9), ("1.5KiB", 1536), ("7", 7), ("7b", 7), (7, 7), ("2Ti", 2**41)],
)
def test_sizes(written: object, expected: int) -> None:
    assert size(written) == expected


@pytest.mark.parametrize("wrong", [True, -1, 1.5, "", "big", "1 mile", None, "9" * 400])
def test_what_is_no_size(wrong: object) -> None:
    with pytest.raises(ValueError, match="a size is expected, such as 512MiB"):
        size(wrong)


@pytest.mark.parametrize(("value", "text"), [(0.35, "350 ms"), (4.2, "4.2 s"), (190, "3 min 10 s")])
def test_times_are_written_for_people(value: float, text: str) -> None:
    assert written_seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing"),
        (True, "true"),
        ("a\n", '"a\\n"'),
        (3, "3"),
        (0.5, "0.5"),
        ({}, "a section of keys"),
        ([], "a list"),
        ("x" * 99, '"' + "x" * 57 + '..."'),
    ],
)
def test_a_wrong_value_is_shown_short(value: object, text: str) -> None:
    assert quoted(value) == text


@given(st.text())
def test_whatever_the_text_only_a_value_error_comes_out(text: str) -> None:
    for read in (seconds, size):
        try:
            assert read(text) >= 0
        except ValueError:
            continue
