"""Sites: what a file's domains become, and which of them two apps cannot both have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.domains import Site, check_host, site, taken
from rota.core.spec import AppSpec

NAMES = st.from_regex(r"[a-z0-9]{1,5}(\.[a-z]{1,3}){0,2}", fullmatch=True)
PATHS = st.from_regex(r"(/[A-Za-z0-9~-][A-Za-z0-9._~-]{0,3}){0,2}", fullmatch=True)
WILD = st.sampled_from(["", "*."])
SITES = st.builds(lambda wild, name, path: Site(wild + name, path), WILD, NAMES, PATHS) | st.builds(
    lambda name, other: Site(name, leads_to=other), NAMES, NAMES
)


def spec(*domains: dict[str, object]) -> AppSpec:
    return AppSpec.model_validate({"name": "shop", "command": ["x"], "domains": domains})


@given(SITES)
def test_a_site_is_read_back_from_its_text(found: Site) -> None:
    assert site(str(found)) == found


@pytest.mark.parametrize("text", ["", "a b", "*", "*.", "a.*.b", "x.org/a b", "x.org/a//b", "x.org/../b", "x.org > "])
def test_what_is_no_site_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a domain name|a path such as"):
        site(text)


def test_a_domain_with_aliases_is_as_many_sites() -> None:
    found = spec({"domain": "WWW.x.org", "aliases": ["x.org", "x.net"]}, {"domain": "*.x.org", "path": "/api/"})
    assert list(map(str, found.sites)) == ["www.x.org", "x.org > www.x.org", "x.net > www.x.org", "*.x.org/api"]
    assert found.hosts == ("www.x.org", "x.org", "x.net")
    assert list(map(str, spec().sites)) == ["shop.localhost"]


@pytest.mark.parametrize(
    ("sites", "host"),
    [
        (["b.org/x", "a.org > c.org", "c.org", "*.d.org"], "c.org"),
        (["*.d.org", "b.org/x"], "b.org"),
        (["*.d.org"], "rota.d.org"),
        ([], "localhost"),
    ],
)
def test_checks_ask_for_a_host_that_the_app_serves(sites: list[str], host: str) -> None:
    assert check_host(sites) == host


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (["a.org"], ["a.org/api", "*.a.org"], None),
        (["a.org/api"], ["a.org/api"], "a.org/api"),
        (["a.org > b.org"], ["a.org"], "a.org"),
        (["z.org", "*.a.org"], ["*.a.org"], "*.a.org"),
    ],
)
def test_two_apps_share_no_site(ours: list[str], theirs: list[str], found: str | None) -> None:
    assert taken(ours, theirs) == found
    assert (taken(theirs, ours) is None) is (found is None)
