"""Somebody else's image, which knows nothing of rota, restarted and deployed anew under load: nginx from Debian."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from tests.e2e.scenario import Hello, nothing_lost, succeeded
from tests.e2e.site import Containers, ServerAt

from rota.testing import images
from rota.testing.docker import DockerEngine

pytestmark = [pytest.mark.full, pytest.mark.load, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

GREETING = "Hello from nginx"
CONFIG = f"""
user app;
error_log stderr;
pid /tmp/nginx.pid;
events {{}}
http {{
  access_log off;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server {{ listen 80; location / {{ return 200 "{GREETING}\\n"; }} }}
}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(docker_engine: DockerEngine, component: Callable[[str], object]) -> AsyncIterator[Hello]:
    for name in ("haproxy", "docker", "nginx"):
        component(name)
    for tag in ("1", "2"):
        docker_engine.import_image(f"test/nginx:{tag}", images.nginx(CONFIG), 'CMD ["nginx", "-g", "daemon off;"]')
    async with ServerAt(Containers(docker_engine)) as server:
        nginx = Hello(server, "nginx", replicas=3, image="test/nginx:1", port=80, health_check_path="/")
        await nginx.deploy_ok()
        yield nginx


@pytest.mark.feature("H1", "V1")
@pytest.mark.parametrize("change", ["restart", "deploy"])
async def test_nobody_notices_a_change_of_somebody_elses_image(
    change: str, app: Hello, docker_engine: DockerEngine
) -> None:
    """``docker ps`` before has three, during it an heir beside the first, and after it three others."""
    before = await containers(docker_engine)
    assert len(before) == 3

    async def an_heir_beside_the_first() -> bool:
        return before < await containers(docker_engine)

    async with app.load(fast_prefix=GREETING, slow_share=0.0, post_share=0.0) as load:
        words = ("restart", app.name, "--fail-on-loss", "--json")
        changing = asyncio.create_task(
            app.server.cli(*words) if change == "restart" else app.deploy("--fail-on-loss", image="test/nginx:2")
        )
        await app.server.until(an_heir_beside_the_first)
        rollout = succeeded(await changing)
        report = await load.stop()
    nothing_lost(report)
    assert (rollout["receipt"]["failed"], rollout["receipt"]["app_errors"]) == (0, 0)
    after = await containers(docker_engine)
    assert len(after) == 3
    assert not after & before


async def containers(engine: DockerEngine) -> set[str]:
    return set((await engine.cli("ps", "-q", "--filter", "label=rota.app=nginx")).split())
