"""rota.yaml: what is read from it, and one clear message at its place for each mistake."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.errors import Problem, SpecError
from rota.core.spec import AppSpec, FailureAction, Mode, Order, Strategy
from rota.core.specfile import NOT_YET, NOT_YET_VALUES, parse, placed

GOOD = "name: hello\ncommand: [python3, app.py]\n"


def messages(text: str | bytes) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert caught.value.exit_code == 3
    return [str(problem) for problem in caught.value.problems]


def only(text: str | bytes) -> str:
    found = messages(text)
    assert len(found) == 1, found
    return found[0]


def test_a_short_file_takes_the_defaults() -> None:
    spec = parse(GOOD)
    assert spec == AppSpec(name="hello", command=("python3", "app.py"))
    assert spec.replicas == 1
    assert spec.deployment_strategy is Strategy.ROLLING


@pytest.mark.parametrize(
    ("notify", "said"),
    [
        ("[ops@example.org]", "notify: an address is expected, such as mailto://…, json://… or slack://…, not"),
        ("ops@example.org", "notify: a list is expected, each entry as in - mailto://…, not"),
        ("[mailto:ops@example.org]", "notify: an address is expected"),
        ("[json://a b]", "notify: an address is expected"),
    ],
)
def test_an_address_of_notices_is_a_url(notify: str, said: str) -> None:
    with pytest.raises(SpecError, match=re.escape(said)):
        parse(f"{GOOD}notify: {notify}\n")
    assert parse(f"{GOOD}notify: ['json://a.example/x']\n").notify == ("json://a.example/x",)


def test_a_long_file_is_read_whole() -> None:
    spec = parse(
        """
name: shop
replicas: 3
port: "8080"
deployment_strategy: rolling
domains:
  - domain: Shop.Example.org
health_check: {type: http, path: /health, expect_body: 200, interval: 1s, fall: 2}
min_ready_seconds: 5
command: [gunicorn, -b, "127.0.0.1:$PORT", app]
resources: {cloudlets: 4}
rollout: {mode: sequential, parallelism: 25%, order: stop-first, delay: 500ms, failure_action: pause}
restart: {give_up: true, delay: 2}
"""
    )
    assert spec.hosts == ("shop.example.org",)
    assert spec.port == 8080
    assert spec.check_path == "/health"
    assert spec.check.expect_body == "200"
    assert (spec.rollout.mode, spec.rollout.order) == (Mode.SEQUENTIAL, Order.STOP_FIRST)
    assert (spec.rollout.parallelism, spec.rollout.delay) == ("25%", 0.5)
    assert spec.rollout.failure_action is FailureAction.PAUSE
    assert spec.limits.memory == 512 * 2**20
    assert spec.restart.give_up


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "replicsa: 3", 'rota.yaml:3:1: unknown key "replicsa"; did you mean "replicas"?'),
        (
            GOOD + "healthCheckPath: /",
            'rota.yaml:3:1: unknown key "healthCheckPath"; did you mean "health_check_path"?',
        ),
        (GOOD + "drain:\n  timeuot: 3", 'rota.yaml:4:3: unknown key "timeuot"; did you mean "timeout"?'),
        (GOOD + "delay: 3", 'rota.yaml:3:1: unknown key "delay"; it belongs under rollout:'),
        (
            GOOD + "drain:\n  replicas: 3",
            'rota.yaml:4:3: unknown key "replicas"; it belongs at the top level',
        ),
        (
            GOOD + "drain: {timeout: 2h}",
            "rota.yaml:3:18: drain.timeout: 0 to 3600 seconds are allowed, not 7200: an old HAProxy process is not kept"
            " for longer",
        ),
        (
            GOOD + "drain: {session_timeout: 5s}",
            "rota.yaml:3:26: drain.session_timeout: only a sticky app has sessions to wait for; add sticky: true",
        ),
        (
            GOOD + "sticky: 5",
            "rota.yaml:3:9: sticky: true, or a section with cookie and max_age, is expected, not 5",
        ),
        (
            GOOD + "domains: [{domain: a.org, aliases: b.org}]",
            'rota.yaml:3:36: domains.aliases: a list of names is expected, such as [example.org], not "b.org"',
        ),
        (
            GOOD + "domains: [{domain: a.org, aliases: [b.org, c org]}]",
            "rota.yaml:3:44: domains.aliases: 'c org' is not a domain name",
        ),
        (
            GOOD + "domains: [{domain: a.org}, {domain: b.org, aliases: [c.org, a.org]}]",
            'rota.yaml:3:61: domains.aliases: "a.org" is given twice',
        ),
        (
            GOOD + "domains: [{domain: a.org, path: /x}, {domain: a.org, path: /x/}]",
            'rota.yaml:3:47: domains.domain: "a.org/x" is given twice',
        ),
        (
            GOOD + "domains: [{domain: a.org, path: /x, aliases: [b.org]}]",
            "rota.yaml:3:46: domains.aliases: an alias leads to a whole domain; give it beside an entry without a path",
        ),
        (
            GOOD + "domains: [{domain: '*.a.org', aliases: [b.org]}]",
            "rota.yaml:3:40: domains.aliases: an alias leads to one domain, not to all of a wildcard",
        ),
        (
            GOOD + "domains: [{domain: a.org, path: 'x y'}]",
            'rota.yaml:3:33: domains.path: a path such as /api is expected, of a-z, A-Z, 0-9, . _ ~ and -, not "x y"',
        ),
        (
            GOOD + "sticky: {same_site: None}",
            "rota.yaml:3:21: sticky.same_site: browsers refuse a cookie with none that is not secure; add secure: true",
        ),
        (
            GOOD + "sticky: {same_site: lux}",
            'rota.yaml:3:21: sticky.same_site: lax, strict or none is expected, not "lux"',
        ),
        (
            GOOD + "balance: 3",
            "rota.yaml:3:10: balance: round-robin, leastconn, random, source or a section with header is expected,"
            " not 3",
        ),
        (
            GOOD + "balance: {heador: X-User}",
            'rota.yaml:3:19: balance.heador: unknown key "heador"; known here: header',
        ),
        (
            GOOD + "balance: {header: 'X User'}",
            'rota.yaml:3:19: balance.header: the name of a header is expected, such as X-User, not "X User"',
        ),
        (
            GOOD + "balance: {header: [X]}",
            "rota.yaml:3:19: balance.header: the name of a header is expected, such as X-User, not a list",
        ),
        (GOOD + "sticky: {cooky: seat}", 'rota.yaml:3:10: unknown key "cooky"; did you mean "cookie"?'),
        (
            GOOD + "sticky: {max_age: 0}",
            "rota.yaml:3:19: sticky.max_age: 1 second to 400 days are allowed, not 0 seconds",
        ),
        (GOOD + "drain: {qqq: 3}", 'rota.yaml:3:9: unknown key "qqq"; known here: timeout, session_timeout'),
        (GOOD + "replicas: many", 'rota.yaml:3:11: replicas: a whole number is expected, not "many"'),
        (GOOD + "replicas: true", "rota.yaml:3:11: replicas: a whole number is expected, not true"),
        (GOOD + "replicas: 2.5", "rota.yaml:3:11: replicas: a whole number is expected, not 2.5"),
        (GOOD + "replicas:", "rota.yaml:3:10: replicas: a whole number is expected, not nothing"),
        (GOOD + "replicas: 0", "rota.yaml:3:11: replicas: at least 1 is expected, not 0"),
        (GOOD + "replicas: 1001", "rota.yaml:3:11: replicas: at most 1000 is expected, not 1001"),
        (GOOD + "replicas: 1:30", 'rota.yaml:3:11: replicas: a whole number is expected, not "1:30"'),
        (GOOD + "port: 70000", "rota.yaml:3:7: port: at most 65535 is expected, not 70000"),
        (GOOD + "resources: {cpus: 0}", "rota.yaml:3:19: resources.cpus: more than 0 is expected, not 0"),
        (GOOD + "resources: {cpus: .inf}", 'rota.yaml:3:19: resources.cpus: a number is expected, not ".inf"'),
        (
            GOOD + "resources: {cloudlets: 1, cpus: 1}",
            "rota.yaml:3:24: resources.cloudlets: give cloudlets, or memory and cpus, not both",
        ),
        (
            GOOD + "resources: {memory: 512}",
            "rota.yaml:3:21: resources.memory: at least 4 MiB are needed, not 512 bytes; a bare number is bytes",
        ),
        (GOOD + "restart: {give_up: maybe}", 'rota.yaml:3:20: restart.give_up: true or false is expected, not "maybe"'),
        (
            GOOD + "restart: {delay: 10m}",
            "rota.yaml:3:10: restart.max_delay: the first delay of 600 s is longer than max_delay, 300 s",
        ),
        (GOOD + "min_ready_seconds: 601", "rota.yaml:3:20: min_ready_seconds: 0 to 600 seconds are allowed, not 601"),
        (GOOD + "health_check_path: health", "rota.yaml:3:20: health_check_path: a path is expected that begins with"),
        (
            GOOD + "health_check: {interval: 0}",
            "rota.yaml:3:26: health_check.interval: 0.1 to 3600 seconds are allowed, not 0",
        ),
        (
            GOOD + "health_check: {start_interval: 0}",
            "rota.yaml:3:32: health_check.start_interval: 0.01 to 60 seconds are allowed, not 0",
        ),
        (
            GOOD + "health_check: {expect_body: ok}",
            "rota.yaml:3:29: health_check.expect_body: give the path too whose answer has it, such as path: /health",
        ),
        (
            GOOD + "health_check: {type: tcp, expect_body: ok}",
            "rota.yaml:3:40: health_check.expect_body: only an HTTP answer has a body; type: tcp asks for none",
        ),
        (
            GOOD + 'health_check: {path: /, expect_body: "a\\nb"}',
            "rota.yaml:3:38: health_check.expect_body: a text on one line is expected, without control characters",
        ),
        (GOOD + 'health_check: {path: /, expect_body: ""}', "rota.yaml:3:38: health_check.expect_body: it is empty"),
        (
            GOOD + "health_check: {path: /, expect_body: " + "x" * 257 + "}",
            "rota.yaml:3:38: health_check.expect_body: too long: 256 is the most",
        ),
        (
            GOOD + "health_check: {type: exec}",
            'rota.yaml:3:15: the key "command" is missing',
        ),
        (
            GOOD + "health_check: {type: exec, command: curl -f x}",
            'rota.yaml:3:37: health_check.command: a list of words is expected, such as ["curl", "-f", "x"]; no',
        ),
        (GOOD + "health_check: {command: []}", "rota.yaml:3:25: health_check.command: it is empty"),
        (
            GOOD + "health_check: {type: tcp, command: [x]}",
            "rota.yaml:3:36: health_check.command: only type: exec runs a command, and type: tcp is given",
        ),
        (
            GOOD + "health_check: {command: [x], path: /}",
            "rota.yaml:3:36: health_check.path: only type: http asks for a path",
        ),
        (
            GOOD + "health_check: {type: none, path: /}",
            "rota.yaml:3:34: health_check.path: only type: http asks for a path",
        ),
        (
            GOOD + "health_check: {type: grpc, path: /}",
            "rota.yaml:3:34: health_check.path: only type: http asks for a path",
        ),
        (
            GOOD + "health_check: {service: shop.Orders}",
            "rota.yaml:3:25: health_check.service: only type: grpc asks for a service; add that",
        ),
        (
            GOOD + "health_check_path: /\nhealth_check: {command: [x], expect_body: ok}",
            "rota.yaml:4:43: health_check.expect_body: only an HTTP answer has a body; type: exec asks for none",
        ),
        (
            GOOD + "health_check: {type: ping}",
            "rota.yaml:3:22: health_check.type: http, tcp, exec, grpc or none is expected",
        ),
        (GOOD + "stop_signal: KILL", "rota.yaml:3:14: stop_signal: SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 or"),
        (GOOD + "user: Root!", "rota.yaml:3:7: user: 'Root!' is not a user name"),
        (GOOD + "rollout: fast", "rota.yaml:3:10: rollout: a section of keys is expected (mode, "),
        (
            GOOD + "rollout: {parallelism: 0}",
            "rota.yaml:3:24: rollout.parallelism: 1 to 1000 replicas or 1% to 100% of them are expected, not 0",
        ),
        (GOOD + "domains: x", "rota.yaml:3:10: domains: a list is expected, each entry as in - domain: www"),
        (GOOD + "domains: [x]", 'rota.yaml:3:11: domains: an entry is written as - domain: www.example.org, not "x"'),
        (GOOD + "domains: [{}]", 'rota.yaml:3:11: the key "domain" is missing'),
        (GOOD + 'domains: [{domain: "a\\nb"}]', "rota.yaml:3:20: domains.domain: 'a\\nb' is not a domain name"),
        (
            GOOD + "domains: [{domain: a.org}, {domain: A.org}]",
            'rota.yaml:3:37: domains.domain: "a.org" is given twice',
        ),
        (GOOD + "env: [{name: A, value: 1}, {name: A, value: 2}]", 'rota.yaml:3:35: env.name: "A" is given twice'),
        (GOOD + "env: {A: b}", "rota.yaml:3:6: env: a list is expected, each entry as in - name: KEY and value: TEXT"),
        (GOOD + "env: [{name: A, value: [1]}]", "rota.yaml:3:24: env.value: a text is expected, not a list"),
        (GOOD + "env: [{name: A}]", 'rota.yaml:3:7: the key "value" is missing'),
        ('name: "a\\nb"\ncommand: [x]', "rota.yaml:1:7: name: 'a\\nb' is not an app name"),
        ("name: 12\ncommand: [x]", 'rota.yaml:1:7: name: a text is expected; write it with quotes: "12"'),
        ("command: [x]", 'rota.yaml:1:1: the key "name" is missing; give it, such as name: hello'),
        ("name: a", 'rota.yaml:1:1: the key "command" is missing; give it, such as command: '),
        (
            "name: a\ncommand: python3 'my app.py'",
            'rota.yaml:2:10: command: a list of words is expected, such as ["python3", "my app.py"]; no shell',
        ),
        ("name: a\ncommand: it's", 'rota.yaml:2:10: command: a list of words is expected, such as ["it\'s"]; no shell'),
        ("name: a\ncommand: 3", "rota.yaml:2:10: command: a list of words is expected, not 3; no shell takes part"),
        ("name: a\ncommand: []", "rota.yaml:2:10: command: it is empty"),
        (GOOD + "build_command: []", "rota.yaml:3:16: build_command: it is empty"),
        (GOOD + "build_command: [{}]", "rota.yaml:3:17: build_command: a text is expected, not a section of keys"),
        (GOOD + "network: a b", 'rota.yaml:3:10: network: a network\'s name is expected, not "a b"'),
        ("name: a\ncommand: [a, {}]", "rota.yaml:2:14: command: a text is expected, not a section of keys"),
        (GOOD + "image: X", 'rota.yaml:3:8: image: an image is expected, such as ghcr.io/me/app:1.2, not "X"'),
        (GOOD + "name: b", 'rota.yaml:3:1: "name" is given twice, first in line 1'),
    ],
)
def test_a_mistake_is_named_at_its_place(text: str, message: str) -> None:
    assert only(text).startswith(message)


def test_a_long_text_is_too_long() -> None:
    assert only(f"name: a\ncommand: [{'x' * 70000}]") == "rota.yaml:2:11: command: too long: 65,536 is the most"


def test_all_mistakes_are_reported_in_the_order_of_the_file() -> None:
    found = messages("name: A\ncommand: [x]\nname: b\nreplicas: 0\nnotify: x\ndrain: {timeout: soon}\n")
    assert [line.split(":")[1] for line in found] == ["1", "3", "4", "5", "6"]


def test_a_problem_says_which_key_it_is_about() -> None:
    with pytest.raises(SpecError) as caught:
        parse(GOOD + "env: [{name: 1A, value: x}]", "other.yaml")
    problem = caught.value.problems[0]
    assert (problem.file, problem.key, problem.line, problem.column) == ("other.yaml", "env.0.name", 3, 14)


@pytest.mark.parametrize("delay", ["301", "301s", "6m"])
def test_a_delay_over_five_minutes_is_refused_with_the_reason(delay: str) -> None:
    found = only(GOOD + f"rollout: {{delay: {delay}}}")
    assert "rota.yaml:3:18: rollout.delay: a delay is 0 to 300 seconds, not 3" in found
    assert "ready already" in found


@pytest.mark.parametrize("delay", ["0", "300", "5m", "30s"])
def test_a_delay_up_to_five_minutes_is_taken(delay: str) -> None:
    assert 0 <= (parse(GOOD + f"rollout: {{delay: {delay}}}").rollout.delay or 0) <= 300


@pytest.mark.parametrize("options", ["mode: sequential", "order: start-first", "order: in-place"])
def test_replace_does_not_go_with_one_at_a_time(options: str) -> None:
    found = only(GOOD + f"deployment_strategy: replace\nrollout:\n  {options}")
    assert found.startswith("rota.yaml:5:")
    assert "contradicts deployment_strategy: replace" in found


@pytest.mark.parametrize("options", ["mode: simultaneous", "order: stop-first", "delay: 0"])
def test_replace_goes_with_all_at_once(options: str) -> None:
    spec = parse(GOOD + f"deployment_strategy: replace\nrollout:\n  {options}")
    assert spec.deployment_strategy is Strategy.REPLACE


@pytest.mark.parametrize(
    ("section", "key"), [(section, key) for section, keys in NOT_YET.items() for key in keys.split()]
)
def test_a_key_of_the_full_form_is_named_not_dropped(section: str, key: str) -> None:
    wrapped = {
        "": f"{key}: x",
        "env": f"env: [{{name: A, value: b, {key}: x}}]",
        "domains": f"domains: [{{domain: a.org, {key}: x}}]",
    }.get(section, f"{section}: {{{key}: x}}")
    assert f'"{key}" is not supported yet by this version of rota; remove it' in only(GOOD + wrapped)


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, some in NOT_YET_VALUES.items() for value in some])
def test_a_value_of_the_full_form_is_named(path: str, value: str) -> None:
    section, _, key = path.rpartition(".")
    text = f"{section}: {{{key}: {value}}}" if section else f"{key}: {value}"
    assert f'{path}: "{value}" is not supported yet' in only(GOOD + text)


def test_no_key_is_both_known_and_not_yet_known() -> None:
    assert set(NOT_YET[""].split()) & set(AppSpec.model_fields) == set()


class TestEnvironment:
    def test_values_are_texts_as_they_are_written(self) -> None:
        spec = parse(GOOD + "env: [{name: A, value: 1.10}, {name: B, value: 010}, {name: C, value: yes}]")
        assert [entry.value for entry in spec.env] == ["1.10", "010", "yes"]

    def test_words_of_a_command_are_texts_as_they_are_written(self) -> None:
        assert parse("name: a\ncommand: [sleep, 1.0, true]").command == ("sleep", "1.0", "true")

    def test_a_name_takes_the_value_of_another(self) -> None:
        spec = parse(GOOD + "env: [{name: URL, value: 'http://${HOST}/$${x}'}, {name: HOST, value: a.org}]")
        assert spec.env[0].value == "http://a.org/${x}"

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("${PATH}", "env.value: ${PATH} is not among the names of env"),
            ("${A", "env.value: a ${ without its }"),
            ("${A:-b}", "env.value: ${A:-b} holds no name"),
            ("${A}", "env.value: the values lead back to themselves: A → A"),
        ],
    )
    def test_what_cannot_be_filled_in(self, value: str, message: str) -> None:
        assert only(GOOD + f"env: [{{name: A, value: '{value}'}}]").startswith(f"rota.yaml:3:24: {message}")

    def test_a_cycle_is_shown(self) -> None:
        found = only(GOOD + "env: [{name: A, value: '${B}'}, {name: B, value: '${A}'}]")
        assert "A → B → A" in found or "B → A → B" in found

    def test_values_that_double_end_at_a_limit(self) -> None:
        entries = "".join(f"  - {{name: A{n}, value: '${{A{n + 1}}}${{A{n + 1}}}'}}\n" for n in range(40))
        found = only(GOOD + f"env:\n{entries}  - {{name: A40, value: xxxx}}\n")
        assert "longer than 65,536 characters once expanded" in found

    def test_a_long_chain_is_no_matter(self) -> None:
        entries = "".join(f"  - {{name: A{n}, value: '${{A{n + 1}}}'}}\n" for n in range(3000))
        assert parse(GOOD + f"env:\n{entries}  - {{name: A3000, value: x}}\n").env[0].value == "x"


@pytest.mark.parametrize(("written", "meant"), [("2", 2), ("'2'", 2), ("25%", "25%"), ("100%", "100%")])
def test_parallelism_is_a_number_or_a_share(written: str, meant: int | str) -> None:
    assert parse(GOOD + f"rollout: {{parallelism: {written}}}").rollout.parallelism == meant


class TestForm:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "rota.yaml:1:1: the file is empty; rota init writes one to start from"),
            ("# only a comment\n", "rota.yaml:1:1: the file is empty; rota init writes one to start from"),
            ("~", "rota.yaml:1:1: the file is empty; rota init writes one to start from"),
            ("- name: a", "rota.yaml:1:1: keys such as name: are expected, not a list"),
            ("hello", "rota.yaml:1:1: keys such as name: are expected, not a single value"),
            ("name: a\n\treplicas: 3", "rota.yaml:2:1: a tab in the indentation; YAML takes spaces only"),
            ("name: a: b", "rota.yaml:1:8: this is not YAML: mapping values are not allowed in this context"),
            ("name: [a", "rota.yaml:2:1: this is not YAML: "),
            ("name: a\n---\nname: b", "rota.yaml:2:1: a second document begins here; a file describes one app"),
            (b"name: \xff", "rota.yaml:1:7: the file is not UTF-8 text"),
            ("name: a\nx: \0", "rota.yaml:2:4: the control character U+0000 cannot be part of the file"),
            ("name: \ud800", "rota.yaml:1:7: the control character U+D800 cannot be part of the file"),
            ("[" * 100_000, "rota.yaml:1:33: nested more than 32 levels deep"),
            ("a: &a [*a]", "rota.yaml:1:4: an alias leads back to itself"),
            ("a: &a {b: *a}", "rota.yaml:1:4: an alias leads back to itself"),
            (" " * 2**20 + "a", "rota.yaml:1:1: the file has 1,048,577 bytes; 1 MiB is the most"),
            (GOOD + "user: !who me", 'rota.yaml:3:7: the tag "!who" is not understood'),
            (GOOD + "[a]: 3", "rota.yaml:3:1: a key is a word, not a list"),
            (GOOD + "<<: 3", "rota.yaml:3:5: << takes the keys of another section, as in <<: *name"),
        ],
    )
    def test_what_is_no_file_of_ours(self, text: str | bytes, message: str) -> None:
        assert only(text).startswith(message)

    def test_a_bomb_does_not_go_off(self) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
        assert only("\n".join(lines)).endswith("more than 50,000 values once aliases are followed")

    def test_bytes_with_a_byte_order_mark_are_fine(self) -> None:
        assert parse(b"\xef\xbb\xbf" + GOOD.encode()).name == "hello"

    def test_anchors_and_merged_sections_are_followed(self) -> None:
        spec = parse(
            "name: a\ncommand: &c [x]\nbuild_command: *c\nrestart: &r {delay: 2}\n"
            "rollout: {<<: [*r, {delay: 3, monitor: 4}], delay: 5}\n"
        )
        assert spec.build_command == ("x",)
        assert (spec.rollout.delay, spec.rollout.monitor) == (5.0, 4.0)

    def test_of_merged_sections_the_first_that_has_a_key_wins(self) -> None:
        assert parse(GOOD + "<<: [{replicas: 4}, {replicas: 5}]").replicas == 4


KEYS = st.sampled_from([*AppSpec.model_fields, "delay", "domain", "value", "sticky", "zz", "<<"])
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["${A}", "30s"])
)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5))


def survives(text: str | bytes) -> None:
    for problem in problems(text):
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.message


def problems(text: str | bytes) -> tuple[Problem, ...]:
    try:
        parse(text)
    except SpecError as error:
        return error.problems
    return ()


@given(st.text() | st.binary())
def test_whatever_the_text_only_a_spec_error_comes_out(text: str | bytes) -> None:
    survives(text)


@given(st.lists(st.sampled_from([*"[]{}:,-&*!|>%@`'\"#?\n \t", "a", "<<", "name: ", "- ", "&a ", "*a", "---"])))
def test_whatever_the_punctuation_only_a_spec_error_comes_out(parts: list[str]) -> None:
    survives("".join(parts))


@given(st.dictionaries(KEYS, TREES, max_size=6))
def test_whatever_the_tree_only_a_spec_error_comes_out(tree: dict[str, object]) -> None:
    survives(json.dumps(tree))


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("domains.0.domain", (3, 20)),
        ("domains.0.aliases.1", (3, 44)),
        ("error_pages.503", (4, 20)),
        ("domains.7.domain", (3, 10)),
        ("notify", (0, 0)),
    ],
)
def test_a_problem_that_the_server_found_is_shown_at_its_place(key: str, place: tuple[int, int]) -> None:
    text = GOOD + "domains: [{domain: a.org, aliases: [b.org, c.org]}]\nerror_pages: {503: x.html}\n"
    found = placed(Problem("no", key=key), text, "rota.yaml")
    assert (found.line, found.column) == place


@pytest.mark.parametrize("section", ["rollout", "rollback"])
def test_a_mode_and_an_order_that_cannot_both_be_are_told_at_their_place(section: str) -> None:
    with pytest.raises(
        SpecError, match=rf"^rota.yaml:3:\d+: {section}\.order: start-first contradicts mode: simultaneous"
    ):
        parse(f"{GOOD}{section}: {{mode: simultaneous, order: start-first}}\n")
    assert parse(f"{GOOD}{section}: {{mode: simultaneous, order: stop-first}}\n")
