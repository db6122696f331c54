"""When a certificate is about to expire; asked by engine.certificatewatch and by core.diagnosis."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

EXPIRING = 14 * 86400.0  # seconds before its end: whoever renews a month before (ACME's custom) has tried for two weeks


@dataclass(frozen=True)
class Certificate:
    """``about`` says whose it is and where; ``expires_at`` in seconds since 1970."""

    about: str
    expires_at: float


def is_expiring(certificate: Certificate, now: float) -> bool:
    return certificate.expires_at - now < EXPIRING


def in_words(certificate: Certificate, now: float) -> str:
    day = datetime.datetime.fromtimestamp(certificate.expires_at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    left = certificate.expires_at - now
    if left < 0:
        return f"{certificate.about} expired on {day}"
    days = int(left / 86400)
    return f"{certificate.about} expires on {day}, in {'less than a day' if not days else f'{days} d'}"
