"""The certificates of an engine behind TLS: the two files here and the one that the engine shows; asked by the docker
runtime."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from rota.core.expiry import Certificate

_ANSWER = 10.0  # seconds


async def certificates(host: str, directory: Path, tls: ssl.SSLContext) -> tuple[Certificate, ...]:
    """``host`` as in DOCKER_HOST, ``directory`` has the files; what cannot be read, or does not answer, is left out."""
    found = [await asyncio.to_thread(_in_file, directory / name) for name in ("ca.pem", "cert.pem")]
    return tuple(one for one in (*found, await _shown(host, tls)) if one is not None)


def _in_file(path: Path) -> Certificate | None:
    """The first to expire of those in it."""
    from cryptography import x509  # of no use to engines without TLS, which are most

    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return None
    about = f"the certificate {path}, by which rota and the Docker engine know each other,"
    return Certificate(about, min(one.not_valid_after_utc for one in found).timestamp())


async def _shown(host: str, tls: ssl.SSLContext) -> Certificate | None:
    place = urlsplit(host)
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_ANSWER):
            _, writer = await asyncio.open_connection(place.hostname, place.port, ssl=tls)
        shown = writer.get_extra_info("peercert")
        writer.close()
        ends = ssl.cert_time_to_seconds(shown["notAfter"])
        return Certificate(f"the certificate of the Docker engine at {host}", ends)
    return None
