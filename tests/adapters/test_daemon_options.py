"""What the composition root says before anything runs."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from rota import __main__, daemon
from rota.core.errors import UsageError
from rota.options import read_options


@pytest.mark.parametrize(
    ("uid", "user", "told"), [(0, None, True), (0, "root", True), (0, "nobody", False), (1000, None, False)]
)
def test_apps_that_run_as_root_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, uid: int, user: str | None, told: bool
) -> None:
    options = read_options(["--process-user", user] if user else [])
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    daemon._name_missing_isolation(options)
    assert ("apps run as root" in caplog.text) is told
    assert ("--process-user" in caplog.text) is told


def test_what_is_in_a_container_is_not_said_to_run_as_root(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    daemon._name_missing_isolation(read_options(["--runtime", "docker"]))
    assert "root" not in caplog.text


@pytest.mark.parametrize(("text", "said"), [("often", "a time is expected"), ("6m", "at most 300 seconds")])
def test_a_reload_interval_that_makes_no_sense_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_options(["--reload-interval", text])


def test_the_reload_interval_is_a_time() -> None:
    assert read_options(["--reload-interval", "500ms"]).reload_interval == 0.5
    assert read_options([]).reload_interval == 10.0


def test_trusted_proxies_are_networks() -> None:
    given = read_options(["--trusted-proxies", "10.0.0.0/8, 192.0.2.1,2001:db8::/32"]).trusted_proxies
    assert given == ("10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32")
    assert read_options([]).trusted_proxies == ()
    with pytest.raises(UsageError, match=r"--trusted-proxies: .* write it as 172\.17\.0\.0/16"):
        read_options(["--trusted-proxies", "10.0.0.1/8"])


@pytest.mark.parametrize("option", ["--api 127.0.0.1:²", "--ports ²-³", "--ports 20000-²", "--process-user ²"])
def test_digits_that_are_no_numbers_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match=option.split()[0]):
        read_options(option.split())


def test_a_token_s_file_that_a_crash_left_empty_is_made_anew(tmp_path: Path) -> None:
    """An empty token would let in whoever sends none."""
    (tmp_path / "admin.token").touch()
    token = daemon._admin_token(tmp_path)
    assert len(token) > 40
    assert (tmp_path / "admin.token").read_text() == token + "\n"
    assert (tmp_path / "admin.token").stat().st_mode & 0o777 == 0o600
    assert daemon._admin_token(tmp_path) == token


def test_a_token_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        daemon._admin_token(tmp_path)
    assert not (tmp_path / "admin.token").exists()


async def test_a_signal_ends_a_daemon_that_waits_for_its_apps_to_stop(caplog: pytest.LogCaptureFixture) -> None:
    """Else one replica that does not end, or a long drain, would keep it from ending at all."""

    class Waiting:
        async def suspend(self) -> None:
            await asyncio.Event().wait()

    server = object.__new__(daemon._Server)
    server._ended, server._signalled = asyncio.Event(), asyncio.Event()
    server._supervisor = Waiting()  # type: ignore[assignment]
    stopping = asyncio.create_task(server.stop_apps())
    await asyncio.sleep(0)
    assert not stopping.done()
    server.on_signal()
    async with asyncio.timeout(10):
        await stopping
    assert "they run again with the next server" in caplog.text


def test_ctrl_c_while_it_starts_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading what it is made of takes a while; the daemon hears signals only after that."""

    def interrupted(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "_serve", interrupted)
    monkeypatch.setattr(sys, "argv", ["rota", "serve"])
    assert __main__.main() == 130


def test_the_page_for_what_nobody_has_is_judged_at_the_start(tmp_path: Path) -> None:
    page = tmp_path / "none.html"
    page.write_text("<p>ü")
    assert read_options(["--not-found-page", str(page)]).not_found_page == "<p>ü"
    assert read_options([]).not_found_page is None
    for content, reason in (
        (b"", "it has 0 bytes"),
        (b"x" * 12_001, "it has 12,001 bytes"),
        (b"\xff", "it is not UTF-8"),
    ):
        page.write_bytes(content)
        with pytest.raises(UsageError, match=f"--not-found-page .*none.html cannot be used: {reason}"):
            read_options(["--not-found-page", str(page)])
    with pytest.raises(UsageError, match="cannot be used: No such file"):
        read_options(["--not-found-page", str(tmp_path / "missing")])
    with pytest.raises(UsageError, match="cannot be used: Is a directory"):
        read_options(["--not-found-page", str(tmp_path)])
