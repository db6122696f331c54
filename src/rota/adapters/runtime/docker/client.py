"""The connection to a Docker engine: requests, streams, and the two ways in which they fail; used by all of the docker
runtime.

aiodocker gives transports, TLS and the negotiated API version. Its objects leave out some end points (update, the
archive's HEAD) and its event stream hides when it is connected, so that requests are made by path here."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiodocker import Docker, DockerError

from rota.adapters.runtime.docker.certificates import certificates
from rota.adapters.runtime.docker.sshaddress import SCHEME as SSH
from rota.adapters.runtime.docker.sshaddress import SshAddress
from rota.adapters.runtime.docker.tunnel import Tunnel
from rota.core.errors import Missing, StepFailed, UsageError
from rota.core.expiry import Certificate

DEFAULT_HOST = "unix:///var/run/docker.sock"
CALL = 60.0  # seconds; a start on a busy machine takes some
_CALLS_AT_ONCE = 100  # a full list asks about each container
_CONNECT = 5.0
_NO_CONNECTION = 900  # aiodocker's own status
_UNIX = "unix://"
_NO_TLS = "HTTP request to an HTTPS server"  # Go's words
_LEAST_API = (1, 41)  # Docker 20.10


class EngineLost(StepFailed):
    """The engine did not answer; whether it did what was asked is not known."""


class Refused(StepFailed):
    """The engine answered that it will not; ``http_status`` is HTTP's."""

    def __init__(self, http_status: int, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status


class Client:
    """``host`` as in DOCKER_HOST: ``unix://``, ``tcp://`` with TLS as DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say, and
    ``ssh://``, for which ``directory`` is made. Raises UsageError for any other."""

    def __init__(self, host: str | None, directory: Path) -> None:
        self.host = host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self._tls = _tls() if self.host.startswith("tcp://") else None
        self._tunnel = Tunnel(SshAddress.read(self.host), directory) if self.host.startswith(SSH) else None
        self._url = self._tunnel.url if self._tunnel is not None else _url(self.host, self._tls is not None)
        self._docker: Docker | None = None
        self._connector: aiohttp.BaseConnector | None = None
        self._calls = asyncio.Semaphore(_CALLS_AT_ONCE)

    @property
    def is_local(self) -> bool:
        """Whether the containers' processes are this machine's."""
        return self.host.startswith(_UNIX)

    async def open(self) -> None:
        """Raises Missing saying why nobody answers, and what to do."""
        if self._tunnel is not None:
            try:
                await self._tunnel.open()
            except Missing as missing:
                raise Missing(f"the Docker engine at {self.host} {missing}") from missing
        timeout = aiohttp.ClientTimeout(total=CALL, sock_connect=_CONNECT)
        self._connector, url = _connector(self._url, self._tls)
        self._docker = Docker(url, connector=self._connector, timeout=timeout, api_version="auto")
        try:
            version = await self.negotiate()
        except EngineLost as lost:
            raise Missing(lost.message) from lost
        except Refused as refused:
            way = "set DOCKER_TLS_VERIFY and DOCKER_CERT_PATH" if _NO_TLS in refused.message else "check DOCKER_HOST"
            raise Missing(
                f"the Docker engine at {self.host} refuses: {refused.message.rstrip('.')}; {way}"
            ) from refused
        if version < _LEAST_API:
            raise Missing(
                f"the Docker engine at {self.host} speaks API {_dotted(version)}, {_dotted(_LEAST_API)} is needed"
            )

    async def close(self) -> None:
        if self._docker is not None:
            await self._docker.close()
        if self._connector is not None:
            await self._connector.close()
        if self._tunnel is not None:
            await self._tunnel.close()

    async def certificates(self) -> tuple[Certificate, ...]:
        """Those that this connection depends on, as they are now."""
        return () if self._tls is None else await certificates(self.host, _certificate_directory(), self._tls)

    async def negotiate(self) -> tuple[int, int]:
        """The API version to speak from now on: the engine's own newest, which an upgrade changes."""
        self._engine.api_version = "auto"
        version = await self.get("version")
        major, _, minor = str(version["ApiVersion"]).partition(".")
        return int(major), int(minor)

    async def get(self, path: str, params: Mapping[str, Any] | None = None, *, timeout: float = CALL) -> Any:
        return await self._ask("GET", path, params, None, None, timeout)

    async def post(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        timeout: float = CALL,
    ) -> Any:
        return await self._ask("POST", path, params, body, None, timeout)

    async def delete(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        return await self._ask("DELETE", path, params, None, None, CALL)

    async def head(self, path: str, params: Mapping[str, str]) -> bool:
        """Whether it is there. Raises Refused where the engine cannot say; EngineLost."""
        try:
            async with asyncio.timeout(CALL), self._calls:
                status = await self._status(path, params)
        except (DockerError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failure(error) from error
        if status >= 400 and status != 404:
            raise Refused(status, f"the Docker engine at {self.host} answers {status} when it is asked for {path}")
        return status < 400

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """The JSON lines of an answer, once it has begun. Raises EngineLost when they break off."""
        endless = aiohttp.ClientTimeout(sock_connect=_CONNECT)
        try:
            async with self._engine._query(path, method, params=params, headers=headers, timeout=endless) as response:
                try:
                    yield self._lines(response)
                finally:
                    response.close()
        except (DockerError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failure(error) from error

    @asynccontextmanager
    async def bytes(
        self, path: str, params: Mapping[str, Any], *, method: str = "GET", body: Mapping[str, Any] | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The pieces of an answer as they come."""
        endless = aiohttp.ClientTimeout(sock_connect=_CONNECT)
        sent = None if body is None else json.dumps(body)
        try:
            async with self._engine._query(path, method, params=params, data=sent, timeout=endless) as response:
                try:
                    yield response.content.iter_any()
                finally:
                    response.close()
        except (DockerError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failure(error) from error

    @property
    def _engine(self) -> Docker:
        if self._docker is None:
            raise EngineLost(f"the connection to {self.host} is not open")
        return self._docker

    async def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        timeout: float,
    ) -> Any:
        try:
            async with asyncio.timeout(timeout), self._calls:
                return await self._engine._query_json(path, method, params=params, data=body, headers=headers)
        except (DockerError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failure(error) from error
        except json.JSONDecodeError as error:
            raise self._garbled(error) from error

    async def _status(self, path: str, params: Mapping[str, str]) -> int:
        """Of a HEAD, whose answer has no body, not even for an error: aiodocker would read one."""
        engine = self._engine
        await engine._check_version()
        async with engine.session.head(engine._canonicalize_url(path), params=params) as response:
            return response.status

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
        """Until the answer ends, in whichever way."""
        while True:
            try:
                line = await response.content.readline()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise self._failure(error) from error
            if not line:
                return
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise self._garbled(error) from error

    def _garbled(self, error: ValueError) -> EngineLost:
        return EngineLost(f"the Docker engine at {self.host} gives an answer that is no JSON ({error})")

    def _failure(self, error: Exception) -> StepFailed:
        if isinstance(error, DockerError) and error.status != _NO_CONNECTION:
            return Refused(error.status, error.message.strip())
        return EngineLost(f"the Docker engine at {self.host} {self._why(error)}")

    def _why(self, error: Exception) -> str:
        cause = error.__context__ if isinstance(error, DockerError) else error
        refusal = getattr(cause, "os_error", cause)
        if self._tunnel is not None and not isinstance(refusal, TimeoutError):
            return self._tunnel.why()
        if isinstance(refusal, PermissionError):
            return "does not let this user in (permission denied on its socket); run rota as root or in its group"
        if isinstance(refusal, FileNotFoundError | ConnectionRefusedError):
            return "does not run; start it (systemctl start docker), or set DOCKER_HOST to another"
        if isinstance(refusal, ssl.SSLError):
            return f"cannot be trusted ({refusal.reason or refusal}); check DOCKER_CERT_PATH"
        if isinstance(alert := getattr(refusal, "__cause__", None), ssl.SSLError):
            return f"does not trust this client ({alert.reason}); check DOCKER_CERT_PATH"
        if isinstance(refusal, TimeoutError):
            return "does not answer in time"
        if isinstance(refusal, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
            return "broke off in the middle of an answer; if it has ended, start it (systemctl start docker)"
        return f"does not answer ({refusal or type(refusal).__name__})"


def _connector(url: str, tls: ssl.SSLContext | None) -> tuple[aiohttp.BaseConnector, str]:
    """Of as many connections as are asked for, since streams stay open for as long as somebody follows them; and the
    address as aiodocker writes it before a path."""
    if url.startswith(_UNIX):
        return aiohttp.UnixConnector(url.removeprefix(_UNIX), limit=0), f"{_UNIX}localhost"
    return aiohttp.TCPConnector(ssl=tls if tls is not None else True, limit=0), url


def _url(host: str, tls: bool) -> str:
    scheme, _, rest = host.partition("://")
    if scheme == "unix" and rest:
        return host
    if scheme == "tcp" and rest:
        return f"{'https' if tls else 'http'}://{rest}"
    raise UsageError(
        f"DOCKER_HOST {host}: write unix:///path, tcp://address:port or ssh://user@host; containers are dialled at "
        "their own addresses, to which an engine on another machine needs a route here"
    )


def _certificate_directory() -> Path:
    return Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")


def _tls() -> ssl.SSLContext | None:
    """As the docker command reads it: certificates in DOCKER_CERT_PATH, else ~/.docker."""
    if not os.environ.get("DOCKER_TLS_VERIFY"):
        return None
    directory = _certificate_directory()
    try:
        context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
        context.load_cert_chain(str(directory / "cert.pem"), str(directory / "key.pem"))
    except OSError as error:
        raise UsageError(
            f"DOCKER_TLS_VERIFY is set, but ca.pem, cert.pem and key.pem in {directory} cannot be used ({error}); "
            "set DOCKER_CERT_PATH"
        ) from error
    return context


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
