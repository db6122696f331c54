"""How a replica is chosen: one text in a Backend, and what it says."""

from __future__ import annotations

import pytest

from rota.core.balance import Balance, ByHeader, header_of, written
from rota.core.spec import AppSpec


@pytest.mark.parametrize("balance", [*Balance, ByHeader(header="X-User")])
def test_a_way_is_one_text_that_names_its_header(balance: Balance | ByHeader) -> None:
    assert header_of(written(balance)) == (balance.header if isinstance(balance, ByHeader) else None)
    assert AppSpec(name="a", command=("x",), balance=balance).balance == balance


@pytest.mark.parametrize("text", ["header:", "header:X User", "header:X\nUser", "header:" + "x" * 65])
def test_what_is_no_header_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the name of a header is expected"):
        header_of(text)
