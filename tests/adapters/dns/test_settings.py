"""The file of zones, and the options about DNS: read, or refused with place and reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rota.adapters.dns.settings import read_zones
from rota.core.errors import UsageError
from rota.options import read_options

KEY = {"name": "rota", "secret": "c2VjcmV0"}
ZONE: dict[str, Any] = {"zone": "example.org", "server": "192.0.2.53", "key": KEY}


def written(directory: Path, *zones: dict[str, Any], mode: int = 0o600) -> Path:
    path = directory / "zones.yaml"
    path.write_text(yaml.safe_dump({"zones": list(zones)}))
    path.chmod(mode)
    return path


def test_a_zone_has_defaults(tmp_path: Path) -> None:
    (zone,) = read_zones(written(tmp_path, ZONE))
    assert (zone.address, zone.ttl, zone.addresses, zone.failure) == (("192.0.2.53", 53), 30, (), "block")
    assert zone.propagation == 0
    assert "c2VjcmV0" not in repr(zone)


@pytest.mark.parametrize(
    ("server", "address"),
    [("192.0.2.53:5353", ("192.0.2.53", 5353)), ("[2001:db8::53]:53", ("2001:db8::53", 53))],
)
def test_a_server_is_an_address_and_a_port(tmp_path: Path, server: str, address: tuple[str, int]) -> None:
    assert read_zones(written(tmp_path, ZONE | {"server": server}))[0].address == address


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"server": "ns.example.org"}, "zones.0.server: 'ns.example.org' is not an IP address"),
        ({"server": "192.0.2.53:0"}, "is not ADDRESS or ADDRESS:PORT"),
        ({"zone": "no zone"}, "zones.0.zone"),
        ({"ttl": "10m"}, "zones.0.ttl"),
        ({"propagation": "10m"}, "zones.0.propagation"),
        ({"addresses": ["here"]}, "'here' is not an IP address"),
        ({"key": {"name": "rota", "secret": "%"}}, "zones.0.key.secret: the secret is not base64"),
        ({"failure": "ignore"}, "zones.0.failure"),
        ({"sever": 1}, "zones.0.sever"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_zones(written(tmp_path, ZONE | changes))
    assert reason in str(refused.value)
    assert "zones.yaml" in str(refused.value)


def test_secrets_that_others_may_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="chmod 600"):
        read_zones(written(tmp_path, ZONE, mode=0o640))


def test_zones_do_not_overlap(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"shop\.example\.org lies in example\.org"):
        read_zones(written(tmp_path, ZONE, ZONE | {"zone": "shop.example.org"}))


@pytest.mark.parametrize(("text", "reason"), [("zones: [", "not YAML"), ("[]", "valid"), ("", "valid")])
def test_a_file_that_is_none(tmp_path: Path, text: str, reason: str) -> None:
    path = written(tmp_path)
    path.write_text(text)
    with pytest.raises(UsageError, match=reason):
        read_zones(path)
    path.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        read_zones(path)


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--dns", "localhost:53"], "write it as 127.0.0.1:5353"),
        (["--dns", "127.0.0.1"], "write it as 127.0.0.1:5353"),
        (["--dns", "127.0.0.1:99999"], "write it as 127.0.0.1:5353"),
        (["--dns-ttl", "6s"], "write it as 1s, at most 5s"),
        (["--dns-ttl", "0"], "write it as 1s, at most 5s"),
        (["--dns-ttl", "soon"], "write it as 1s, at most 5s"),
        (["--dns-allow", "172.17.0.1/16"], "write it as 172.17.0.0/16"),
    ],
)
def test_options_that_mean_nothing_are_refused(argv: list[str], reason: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_options(argv)
    assert reason in str(refused.value)


def test_options_about_dns(tmp_path: Path) -> None:
    path = written(tmp_path, ZONE)
    given = read_options(["--dns", "[::1]:5353", "--dns-allow", "172.17.0.0/16", "--dns-zones", str(path)])
    assert (given.dns, given.dns_networks) == ("[::1]:5353", ("172.17.0.0/16",))
    assert given.dns_zones[0].zone == "example.org"
    assert read_options([]).dns is None
    assert (read_options([]).dns_ttl, read_options(["--dns-ttl", "5s"]).dns_ttl) == (1, 5)


@pytest.mark.parametrize(
    "text", ["zones: 2020-13-45", "zones: " + "[" * 5000, "zones: ["], ids=["date", "deep", "open"]
)
def test_what_is_no_yaml_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "zones.yaml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError, match=r"zones\.yaml is not YAML: "):
        read_zones(path)
