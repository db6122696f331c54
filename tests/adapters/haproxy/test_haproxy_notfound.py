"""What users see of hosts and paths that no app has, through a real HAProxy: pages of the apps' and of the server's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rota.adapters.balancer.haproxy.access import HaproxyAccessLog
from rota.core.backend import Backend
from rota.core.names import ReplicaId
from rota.testing.haproxy import Rig, pool, running_rig, until

HOSTILE = "<h1>Nichts \N{LATIN SMALL LETTER U WITH DIAERESIS}brig</h1>\n'\"; \\ %[src] $HOME # {{}}\n"


def having(app: str, page: str | None) -> Backend:
    return replace(pool(None, app=app), pages=() if page is None else ((404, page),))


async def app(rig: Rig, name: str, page: str | None, *sites: str) -> None:
    backend = having(name, page)
    await rig.ready(1, backend, sites[0])
    await rig.balancer.prepare(backend, sites)


@pytest.mark.feature("H10")
async def test_a_path_that_no_app_has_gets_the_page_of_the_shortest_path_s_app(rig: Rig) -> None:
    await app(rig, "shop", HOSTILE, "x.org/shop", "*.x.org/shop")
    await app(rig, "blog", "<p>blog", "x.org/shop/blog")
    await app(rig, "docs", None, "x.org/d", "y.org/docs")
    assert await rig.client("x.org").ask("/none?q") == (404, HOSTILE)
    head = rig.client("X.org.:80")
    assert await head.ask("/shopping") == (404, HOSTILE)
    assert head.head["content-type"] == "text/html; charset=utf-8"
    assert await rig.client("any.x.org").ask("/") == (404, HOSTILE)
    assert await rig.client("x.org").ask("/shop/x") == (200, "shop-1")
    assert await rig.client("x.org").ask("/shop/blog/x") == (200, "blog-1")
    assert "No app has this host name" in (await rig.client("y.org").ask("/none"))[1]
    assert "No app has this host name" in (await rig.client("z.org").ask("/none"))[1]
    assert (await rig.client("x.org").ask("/shop/status/404"))[1] != HOSTILE  # the app's own stays

    log = HaproxyAccessLog(rig.settings.directory)

    async def told() -> bool:
        return ("/none", 404, None) in {(e["path"], e["status"], e["replica"]) for e in await log.tail("shop", 10)}

    await until(told, 5)
    assert await log.tail("blog", 10) != []
    assert {row.app for row in (await rig.see("shop")).rows} == {"shop"}

    await app(rig, "whole", None, "x.org", "*.x.org")
    assert await rig.client("x.org").ask("/none") == (200, "whole-1")
    assert await rig.client("any.x.org").ask("/none") == (200, "whole-1")
    await rig.balancer.unroute("whole")
    await rig.balancer.unroute("shop")
    assert await rig.client("x.org").ask("/none") == (404, "<p>blog")
    assert "No app has this host name" in (await rig.client("any.x.org").ask("/"))[1]
    await rig.another_daemon()
    assert await rig.client("x.org").ask("/none") == (404, "<p>blog")


async def test_another_page_comes_with_the_pool_that_users_are_led_to(rig: Rig) -> None:
    await app(rig, "shop", "<p>1", "x.org/shop")
    second = having("shop", "<p>2")
    await rig.balancer.prepare(second, ("x.org/shop",))
    assert await rig.client("x.org").ask("/") == (404, "<p>1")
    await rig.balancer.route("shop", {second.name: 100})
    assert await rig.client("x.org").ask("/") == (404, "<p>2")


@pytest.mark.parametrize("kind", ["system", "bundled"])
async def test_hosts_that_nobody_has_get_the_server_s_page(kind: str) -> None:
    async with running_rig(kind, not_found_page=HOSTILE) as rig:
        assert await rig.client("nobody.org").ask("/") == (404, HOSTILE)
        await app(rig, "shop", "<p>shop", "x.org/shop")
        await app(rig, "docs", None, "y.org/docs")
        assert await rig.client("x.org").ask("/") == (404, "<p>shop")
        assert await rig.client("y.org").ask("/") == (404, HOSTILE)
        assert await rig.client("nobody.org").ask("/") == (404, HOSTILE)


async def test_pages_stay_on_the_disk_for_as_long_as_a_file_names_them(rig: Rig) -> None:
    def there() -> set[str]:
        return {path.read_text() for path in (rig.settings.directory / "pages").iterdir()}

    await app(rig, "shop", "<p>1", "x.org/shop")
    second = having("shop", "<p>2")
    await rig.balancer.prepare(second, ("x.org/shop",))
    assert there() == {"<p>1", "<p>2"}
    await rig.balancer.route("shop", {second.name: 100})
    await rig.balancer.disable(ReplicaId("shop-1"))
    await rig.balancer.remove(ReplicaId("shop-1"))
    await app(rig, "blog", "<p>blog", "x.org/blog")
    assert there() == {"<p>2", "<p>blog"}
    await rig.balancer.unroute("blog")
    await rig.another_daemon()
    assert there() == {"<p>2"}
