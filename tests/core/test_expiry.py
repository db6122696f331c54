"""When a certificate is about to expire, and what is said of it."""

from __future__ import annotations

import pytest

from rota.core.diagnosis import Level, of_certificates
from rota.core.expiry import EXPIRING, Certificate, in_words, is_expiring

DAY = 86400.0
CERTIFICATE = Certificate("the certificate /x.pem", 100 * DAY)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (10 * DAY, "the certificate /x.pem expires on 1970-04-11 00:00 UTC, in 90 d"),
        (99.5 * DAY, "the certificate /x.pem expires on 1970-04-11 00:00 UTC, in less than a day"),
        (101 * DAY, "the certificate /x.pem expired on 1970-04-11 00:00 UTC"),
    ],
)
def test_what_is_said(now: float, said: str) -> None:
    assert in_words(CERTIFICATE, now) == said


@pytest.mark.feature("H12")
def test_it_is_a_problem_two_weeks_before_its_end() -> None:
    last = CERTIFICATE.expires_at - EXPIRING
    assert not is_expiring(CERTIFICATE, last)
    assert is_expiring(CERTIFICATE, last + 1.0)
    assert is_expiring(CERTIFICATE, last + 100 * DAY)
    assert [one.level for one in of_certificates([CERTIFICATE], last)] == [Level.OK]
    (found,) = of_certificates([CERTIFICATE], last + 1.0)
    assert (found.level, found.about) == (Level.PROBLEM, "certificates")
    assert found.said.startswith("the certificate /x.pem expires on")
