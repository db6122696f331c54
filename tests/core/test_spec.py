"""The app's model: what holds for it wherever it comes from, the API included."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rota.core.environment import unseen
from rota.core.healthcheck import ImageCheck, Kind
from rota.core.schema import json_schema
from rota.core.spec import AppSpec, EnvVar, HealthCheck, Limits, Order, Resources, RolloutOptions, cloudlets
from rota.core.specfile import parse, starter
from rota.core.sticky import Sticky
from rota.testing.simulation_history import spec_of


def test_a_cloudlet_is_128_mib_and_400_mhz() -> None:
    assert cloudlets(4) == Limits(memory=512 * 2**20, cpus=1.6)
    assert Resources(cloudlets=4).limits() == cloudlets(4)
    assert Resources(memory="64MiB").limits() == Limits(memory=64 * 2**20)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(), "no limits"),
        (Limits(memory=2**26), "memory 64 MiB"),
        (Limits(memory=2**26, cpus=0.5), "memory 64 MiB, cpus 0.5"),
    ],
)
def test_limits_are_written_for_people(limits: Limits, text: str) -> None:
    assert limits.written() == text


def test_given_options_go_over_others() -> None:
    given = RolloutOptions(delay=5)
    assert given.over(RolloutOptions(delay=1, order=Order.STOP_FIRST)) == RolloutOptions(
        delay=5, order=Order.STOP_FIRST
    )


def test_without_a_domain_an_app_has_a_name_on_the_loopback() -> None:
    assert AppSpec(name="a", command=("x",)).hosts == ("a.localhost",)


def test_which_path_is_checked() -> None:
    both = AppSpec(name="a", command=("x",), health_check_path="/a", health_check=HealthCheck(path="/b"))
    assert both.check_path == "/b"
    assert AppSpec(name="a", command=("x",), health_check_path="/a").check_path == "/a"
    assert AppSpec(name="a", command=("x",), health_check_path="/a", health_check={"type": "tcp"}).check_path is None


def test_what_is_checked() -> None:
    def kind(**check: object) -> Kind:
        return AppSpec(name="a", command=("x",), health_check=check).check.kind

    assert kind() is Kind.TCP
    assert kind(type="http") is Kind.TCP
    assert kind(type="none") is Kind.TCP
    assert kind(path="/") is Kind.HTTP
    assert kind(command=["x"]) is Kind.EXEC
    assert kind(type="grpc") is Kind.GRPC
    app = AppSpec(name="a", command=("x",), health_check_path="/a", health_check={"type": "exec", "command": ["x"]})
    assert (app.check.kind, app.check_path, app.check.by_daemon) == (Kind.EXEC, None, True)


IMAGE = ImageCheck(("is_ready",), interval=5.0, retries=9, start_interval=100.0)


def filled(**written: object) -> AppSpec:
    return AppSpec.model_validate({"name": "a", "image": "x/y", **written}).with_image_check(IMAGE)


@pytest.mark.feature("W5")
def test_an_images_check_is_in_force_where_the_file_names_none() -> None:
    check = filled().check
    assert (check.kind, check.command) == (Kind.EXEC, ("is_ready",))
    assert (check.interval, check.fall, check.start_interval) == (5.0, 9, 60.0)  # no more than a file may say
    assert (check.timeout, check.start_period) == (30.0, 0.0)  # the engine's own, where the image says nothing
    assert filled().check is check
    plain = AppSpec.model_validate({"name": "a", "image": "x/y"})
    assert plain.with_image_check(None) is plain


@pytest.mark.feature("W5")
def test_each_of_an_images_values_can_be_overridden() -> None:
    own = {"interval": "1s", "timeout": "2s", "fall": 4, "start_period": "3s", "start_interval": "4s"}
    check = filled(health_check=own).check
    assert (check.kind, check.command) == (Kind.EXEC, ("is_ready",))
    assert (check.interval, check.timeout, check.fall, check.start_period, check.start_interval) == (1, 2, 4, 3, 4)
    assert filled(health_check={"interval": "1s"}).check.fall == 9


@pytest.mark.parametrize(
    "own",
    [{"type": "none"}, {"type": "tcp"}, {"type": "http"}, {"path": "/"}, {"command": ["x"]}],
)
def test_a_file_that_says_what_is_checked_has_its_own_way(own: dict[str, object]) -> None:
    assert filled(health_check=own).check.command != ("is_ready",)
    assert filled(health_check_path="/health").check.kind is Kind.HTTP


def test_values_from_json() -> None:
    assert EnvVar(name="A", value=3).value == "3"
    for wrong in (True, "a\0"):
        with pytest.raises(ValidationError):
            EnvVar(name="A", value=wrong)
    with pytest.raises(ValidationError):
        AppSpec(name="a", command=("x\0",))


def test_a_spec_survives_the_store() -> None:
    spec = parse("name: a\ncommand: [x]\nrollout: {delay: 3, parallelism: 50%}\nresources: {memory: 64MiB}\nport: 1")
    assert AppSpec.model_validate_json(spec.model_dump_json()) == spec


def test_the_schema_describes_every_key() -> None:
    schema = json_schema()
    assert schema["title"] == "rota.yaml"
    assert set(schema["properties"]) == set(AppSpec.model_fields)
    for section in (schema, *schema["$defs"].values()):
        for shape in section.get("anyOf", [section]):
            assert all(entry["description"] for entry in shape.get("properties", {}).values())


def test_the_schema_takes_an_image_and_a_volume_as_one_text() -> None:
    for name in ("Image", "Volume"):
        assert {"type": "string"} in json_schema()["$defs"][name]["anyOf"]


@pytest.mark.parametrize("name", ["hello", "no", "1", "1e3", "null"])
def test_a_starter_is_valid_as_it_stands(name: str) -> None:
    spec = parse(starter(name, ["python3", "it's", "$PORT"]))
    assert (spec.name, spec.command, spec.replicas) == (name, ("python3", "it's", "$PORT"), 3)


def test_all_that_a_starter_shows_is_valid() -> None:
    lines = starter("hello", ["x"]).splitlines()
    shown = [
        line.removeprefix("# ") for line in lines if line.startswith(("#   ", "# health", "# dom", "# env", "# res"))
    ]
    spec = parse("\n".join([*(line for line in lines if not line.startswith("#")), *shown]))
    assert spec.env[0].value == "hello"
    assert spec.hosts == ("www.example.org",)
    assert spec.limits.cpus == 0.5


def test_a_starter_of_a_wrong_name_is_an_error() -> None:
    with pytest.raises(Exception, match="is not an app name"):
        starter("a\nreplicas: 9", ["x"])


def test_sticky_is_a_switch_or_a_section() -> None:
    assert parse("name: a\ncommand: [x]\n").sticky is None
    assert parse("name: a\ncommand: [x]\nsticky: false\n").sticky is None
    assert parse("name: a\ncommand: [x]\nsticky: true\n").sticky == Sticky()
    spec = parse("name: a\ncommand: [x]\nsticky: {cookie: seat, max_age: 1d}\ndrain: {session_timeout: 5m}\n")
    assert spec.sticky == Sticky(cookie="seat", max_age=86400.0)
    assert spec.session_timeout == 300.0
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("cookie", ["", "a b", "a;b", "a=b", "-a", "a\n", "é", "a" * 65, 5])
def test_a_cookies_name_is_a_plain_word(cookie: object) -> None:
    with pytest.raises(ValidationError):
        Sticky.model_validate({"cookie": cookie})


def test_the_schema_takes_sticky_as_a_switch() -> None:
    assert {"type": "boolean"} in json_schema()["properties"]["sticky"]["anyOf"]


def test_a_warm_up_asks_for_its_own_path_or_the_health_checks() -> None:
    assert spec_of(warm_up={"requests": 5, "path": "/warm"}).warm_up_path == "/warm"
    assert spec_of(health_check_path="/health").warm_up_path == "/health"
    assert spec_of(health_check={"type": "tcp"}).warm_up_path == "/"


def test_the_variables_that_rota_sets_are_not_the_file_s() -> None:
    env = tuple(EnvVar(name=name, value="x") for name in ("A", "PORT", "PORT_5432", "ROTA_SLOT", "ROTA_MINE"))
    assert list(unseen(env)) == [(1, "PORT"), (3, "ROTA_SLOT")]
    assert list(unseen(env, ["PORT_5432"])) == [(1, "PORT"), (2, "PORT_5432"), (3, "ROTA_SLOT")]
