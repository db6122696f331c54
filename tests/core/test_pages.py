"""Error pages: which files a file may name, and what of them is a page."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rota.core import order as o
from rota.core.backend import backend_of
from rota.core.errors import SpecError
from rota.core.pages import MAX_PAGE, page_text
from rota.core.spec import AppSpec
from rota.core.specfile import parse

GOOD = "name: a\ncommand: [x]\n"


def test_pages_are_written_by_their_status() -> None:
    spec = parse(GOOD + "error_pages: {503: pages/soon.html, 502: broken.html}")
    assert [(page.status, page.file) for page in spec.error_pages] == [(503, "pages/soon.html"), (502, "broken.html")]
    assert AppSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            "{500: x.html}",
            "rota.yaml:3:20: error_pages.500: HAProxy itself answers with 404, 502, 503, 504 alone, ",
        ),
        ("{503: /etc/passwd}", "rota.yaml:3:20: error_pages.503: a file below this one's directory is expected, not "),
        ("{503: ../x}", "rota.yaml:3:20: error_pages.503: a file below"),
        ("{503: 5}", "rota.yaml:3:20: error_pages.503: a file below"),
        ("{503: ''}", "rota.yaml:3:20: error_pages.503: a file below"),
    ],
)
def test_what_is_no_page_is_refused_at_its_place(section: str, message: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse(f"{GOOD}error_pages: {section}")
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has 0 bytes"),
        (b"x" * (MAX_PAGE + 1), "it has 12,001 bytes"),
        (b"\xff", "not UTF-8"),
        (b"a\0b", "NUL"),
    ],
)
def test_what_haproxy_cannot_answer_with_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        page_text(content)
    assert page_text("ü\n".encode()) == "ü\n"


def test_a_page_s_text_is_sent_and_makes_a_pool() -> None:
    spec = parse(GOOD + "error_pages: {503: soon.html}")
    with pytest.raises(ValidationError, match="give each page's text"):
        o.Deploy(spec=spec)
    names = {backend_of(spec).name}
    for text in ("<p>1", "<p>2"):
        pages = tuple(page.model_copy(update={"text": text}) for page in spec.error_pages)
        sent = spec.model_copy(update={"error_pages": pages})
        assert o.Deploy(spec=sent).spec == sent
        names.add(backend_of(sent).name)
    assert len(names) == 3


def test_a_page_for_paths_that_nobody_has_needs_a_path_of_somebody() -> None:
    below = "domains: [{domain: x.org}, {domain: y.org, path: /a}]\nerror_pages: {404: none.html}"
    assert [page.status for page in parse(GOOD + below).error_pages] == [404]
    for domains in ("domains: [{domain: x.org}]\n", ""):
        with pytest.raises(SpecError, match=r":20: error_pages\.404: it is for paths that no app has, and no domain"):
            parse(f"{GOOD}{domains}error_pages: {{404: none.html}}")
