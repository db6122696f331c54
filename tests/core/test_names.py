"""Names: what is let through reaches files, paths and socket lines, so the rules are strict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core import names


@pytest.mark.parametrize("text", ["a", "hello", "a-b", "0", "a" * 40])
def test_an_app_name_is_a_label(text: str) -> None:
    assert names.app_name(text) == text


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a.b", "a_b", "a\n", "a" * 41, "é", "../x", "a b"])
def test_what_is_no_app_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not an app name"):
        names.app_name(text)


@pytest.mark.parametrize(("text", "name"), [("a.example", "a.example"), ("WWW.Example.ORG", "www.example.org")])
def test_a_domain_is_lower_cased(text: str, name: str) -> None:
    assert names.domain_name(text) == name


@pytest.mark.parametrize("text", ["", "a..b", ".a", "a.", "-a.b", "a b", "a\n", "*.a", "a" * 64, "a." * 126 + "ab"])
def test_what_is_no_domain(text: str) -> None:
    with pytest.raises(ValueError, match="is not a domain name"):
        names.domain_name(text)


def test_env_and_user_names() -> None:
    assert names.env_name("_A1") == "_A1"
    assert names.user_name("www-data") == "www-data"
    assert names.user_name("1000") == "1000"
    with pytest.raises(ValueError, match="environment variable"):
        names.env_name("1A")
    with pytest.raises(ValueError, match="user name"):
        names.user_name("Root")


def test_ids_say_whose_they_are() -> None:
    assert names.replica_id("hello", 7) == "hello-7"
    assert names.rollout_id("hello", 3) == "hello.3"


@given(st.text())
def test_an_app_name_never_holds_what_a_path_or_a_socket_line_would_read(text: str) -> None:
    try:
        name = names.app_name(text)
    except ValueError:
        return
    assert not set(name) & set("/.; \n\r\t\0#\"'\\")


def test_a_replica_s_number_is_read_from_its_name() -> None:
    assert names.replica_number(names.replica_id("my-app-2", 17)) == 17
