"""A registry of images on the loopback, asked with a name and a password, that serves images of one layer."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_PIECES, _EVERY = 1000, 0.05  # of a layer, and seconds between two of them: half of it takes 25 s
_LEAST = 2**16  # bytes of a layer: manifests are shorter
USER, PASSWORD = "deployer", "s3cret"


class Registry:
    """``put`` moves a tag, what it led to before is still had by its digest; ``requests`` counts manifests that were
    given."""

    def __init__(self) -> None:
        self.requests = 0
        self.blobs: dict[str, bytes] = {}
        self.tags: dict[str, bytes] = {}
        self.digests: dict[str, bytes] = {}
        self.address = ""
        self.may_give = threading.Event()
        """Cleared: no blob is given."""
        self.may_give.set()
        self.may_finish = threading.Event()
        """Cleared: of a layer one half is given at once, and of the rest a little every now and then."""
        self.may_finish.set()

    def put(self, tag: str, root: Path, greeting: str, architecture: str = "amd64") -> None:
        """An image of this root (a tar) that prints the greeting."""
        plain = root.read_bytes()
        layer = gzip.compress(plain, compresslevel=1, mtime=0)
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["sh", "-c", f"echo {greeting}; sleep 60"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(plain)]},
        }
        written = json.dumps(config).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._keep("application/vnd.docker.container.image.v1+json", written),
            "layers": [self._keep("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)],
        }
        self.tags[tag] = json.dumps(manifest).encode()
        self.digests[_digest(self.tags[tag])] = self.tags[tag]

    def answer(self, path: str) -> tuple[str, bytes] | None:
        kind, _, name = path.removeprefix("/v2/app/").partition("/")
        if kind == "blobs" and name in self.blobs:
            self.may_give.wait(30)
            return "application/octet-stream", self.blobs[name]
        manifest = {**self.tags, **self.digests}.get(name) if kind == "manifests" else None
        if manifest is None:
            return None
        self.requests += 1
        return _MANIFEST, manifest

    def pieces(self, body: bytes) -> Iterator[bytes]:
        """Of a body that is asked for, as they are to be given."""
        given = len(body) // 2 if len(body) > _LEAST else len(body)
        yield body[:given]
        while given < len(body) and not self.may_finish.wait(_EVERY):
            yield body[given : given + max(1, len(body) // _PIECES)]
            given += max(1, len(body) // _PIECES)
        yield body[given:]

    def _keep(self, media_type: str, blob: bytes) -> dict[str, object]:
        self.blobs[_digest(blob)] = blob
        return {"mediaType": media_type, "size": len(blob), "digest": _digest(blob)}


@contextmanager
def running() -> Iterator[Registry]:
    registry = Registry()
    expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.headers.get("Authorization") != expected:
                return self._send(401, "text/plain", b"", {"WWW-Authenticate": 'Basic realm="test"'})
            if self.path == "/v2/":
                return self._send(200, "application/json", b"{}", {})
            found = registry.answer(self.path)
            if found is None:
                return self._send(404, "application/json", b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}', {})
            return self._send(200, found[0], found[1], {"Docker-Content-Digest": _digest(found[1])})

        do_HEAD = do_GET  # noqa: N815  (the server's own names)

        def _send(self, status: int, media_type: str, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Type": media_type, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            for piece in registry.pieces(body) if self.command != "HEAD" else ():
                try:
                    self.wfile.write(piece)
                except OSError:  # the engine has ended
                    return

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        registry.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
