"""What a person would write by hand for the same replicas: a bare HAProxy, nginx and Caddy, each in a directory of its
own; started by balancer.py.

All have what rota gives an app by default: one host, checks, retries, limits, an access log of JSON, X-Forwarded-… and
a request's id. nginx has no checks of its own kind (its replicas fail by requests alone)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
_PATIENCE = 10.0


@dataclass(frozen=True)
class Behind:
    """What is to be served."""

    host: str
    replicas: Sequence[str]
    threads: int
    maxconn: int


class Peer:
    """``with Peer(name, argv, directory, port):`` it accepts connections on 127.0.0.1. A session of its own, as rota's
    HAProxy has: the kernel shares processors out by sessions (sched_autogroup, sched(7))."""

    def __init__(self, name: str, argv: Sequence[str], directory: Path, port: int) -> None:
        self.name, self.port = name, port
        self._argv, self._directory = argv, directory

    def __enter__(self) -> Peer:
        environment = {"PATH": PATH, "HOME": str(self._directory)}
        with (self._directory / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"{self.name} does not start: {self._said()}")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _said(self) -> str:
        return (self._directory / "output.log").read_text(errors="replace")[-2000:]


def found(*programs: str) -> dict[str, str]:
    """Those that are installed, and their paths."""
    paths = {name: shutil.which(name, path=PATH) for name in programs}
    return {name: path for name, path in paths.items() if path}


def bare_haproxy(name: str, program: str, directory: Path, port: int, behind: Behind) -> Peer:
    argv = [program, "-W", "-C", ".", "-f", "haproxy.cfg"]
    return _peer(name, argv, directory, port, {"haproxy.cfg": _haproxy(port, behind), "hosts.map": _hosts(behind)})


def nginx(program: str, directory: Path, port: int, behind: Behind) -> Peer:
    argv = [program, "-p", str(directory), "-c", "nginx.conf"]
    return _peer("nginx", argv, directory, port, {"nginx.conf": _nginx(port, behind)})


def caddy(program: str, directory: Path, port: int, behind: Behind) -> Peer:
    argv = [program, "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    return _peer("Caddy", argv, directory, port, {"Caddyfile": _caddy(port, behind)})


def _peer(name: str, argv: Sequence[str], directory: Path, port: int, files: Mapping[str, str]) -> Peer:
    directory.mkdir()
    for file, text in files.items():
        (directory / file).write_text(text)
    return Peer(name, argv, directory, port)


def _hosts(behind: Behind) -> str:
    return f"{behind.host} replicas\n"


_HAPROXY_LOG = (
    '{"app":"%b","at":%[date(0,ms)],"client":"%ci","method":"%HM","host":"%[capture.req.hdr(0),json(utf8s)]",'
    '"path":"%[capture.req.uri,field(1,?),json(utf8s)]","status":%ST,"replica":"%s","received":%U,"sent":%B,'
    '"request_ms":%TR,"queue_ms":%Tw,"connect_ms":%Tc,"response_ms":%Tr,"total_ms":%Ta,"retries":"%rc","ended":"%tsc",'
    '"id":"%ID"}'
)


def _haproxy(port: int, behind: Behind) -> str:
    servers = "\n".join(
        f"  server {number} {address} check inter 2s fastinter 500ms fall 3 rise 2"
        " observe layer4 error-limit 3 on-error sudden-death"
        for number, address in enumerate(behind.replicas, start=1)
    )
    return f"""\
global
  maxconn {behind.maxconn}
  nbthread {behind.threads}
  stats socket unix@stats.sock mode 600 level admin
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout http-request 10s
  timeout http-keep-alive 20s
  timeout server 60s
  timeout tunnel 1h
  option idle-close-on-response
  http-reuse safe
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response
frontend http
  bind 127.0.0.1:{port}
  log stdout len 16384 format raw daemon info
  log-format '{_HAPROXY_LOG}'
  capture request header Host len 128
  unique-id-format %[uuid()]
  http-request deny deny_status 400 if {{ req.ver 1.0 }} {{ req.hdr(transfer-encoding) -m found }}
  http-request del-header Forwarded
  http-request del-header X-Real-IP
  http-request del-header Proxy
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Request-Id %[unique-id]
  http-after-response set-header X-Request-Id %[unique-id]
  use_backend %[req.hdr(host),field(1,:),lower,map(hosts.map,nobody)]
backend nobody
  http-request return status 404 content-type text/plain string "No app has this host name."
backend replicas
  balance roundrobin
  http-request disable-l7-retry unless {{ method GET HEAD OPTIONS }}
  timeout check 2s
  option httpchk
  http-check send meth GET uri /health ver HTTP/1.1 hdr Host {behind.host}
{servers}
"""


def _nginx(port: int, behind: Behind) -> str:
    servers = "\n".join(f"    server {address};" for address in behind.replicas)
    return f"""\
daemon off;
worker_processes {behind.threads};
pid nginx.pid;
error_log stderr;
events {{ worker_connections {behind.maxconn}; }}
http {{
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  log_format access escape=json '{{"at":$msec,"client":"$remote_addr","method":"$request_method","host":"$http_host",'
    '"path":"$uri","status":$status,"replica":"$upstream_addr","received":$request_length,"sent":$bytes_sent,'
    '"connect":"$upstream_connect_time","response":"$upstream_response_time","total":$request_time,"id":"$request_id"}}';
  access_log access.log access;
  keepalive_requests 1000000000;
  upstream replicas {{
{servers}
    keepalive 64;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    server_name {behind.host};
    location / {{
      proxy_pass http://replicas;
      proxy_http_version 1.1;
      proxy_connect_timeout 1s;
      proxy_next_upstream error timeout;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Request-Id $request_id;
      add_header X-Request-Id $request_id always;
    }}
  }}
}}
"""


def _caddy(port: int, behind: Behind) -> str:
    return f"""\
{{
  admin off
  auto_https off
}}
http://{behind.host}:{port} {{
  bind 127.0.0.1
  log {{
    output file access.log
    format json
  }}
  header X-Request-Id {{http.request.uuid}}
  reverse_proxy {" ".join(behind.replicas)} {{
    lb_policy round_robin
    lb_try_duration 1s
    health_uri /health
    health_interval 2s
    header_up X-Request-Id {{http.request.uuid}}
    header_up X-Forwarded-Port {port}
  }}
}}
"""
