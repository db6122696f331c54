"""The documentation against the code: what has a name on the screen is explained, and links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

import pytest
import typer
import typer.main

from rota.cli.commands import (
    changing,
    deploying,
    dns,
    doctor,
    errand,
    history,
    maintenance,
    planning,
    reading,
    rollouts,
    service,
)
from rota.core.model import Model
from rota.core.rollout import MOVES, Cause, Kind, Phase
from rota.core.spec import AppSpec
from rota.core.steps import STEP_TYPES

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
MOVE = re.compile(r"^\| `(\w+)` \|(.*)\|$", re.MULTILINE)


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def relative_links(page: Path) -> list[str]:
    targets = (target.partition("#")[0] for target in LINK.findall(page.read_text(encoding="utf-8")))
    return [target for target in targets if target and "://" not in target]


def keys_of(model: type[Model], section: str = "") -> Iterator[tuple[str, str]]:
    for name, entry in model.model_fields.items():
        kinds = (entry.annotation, *get_args(entry.annotation))
        below = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Model)), None)
        if below is not None and get_origin(entry.annotation) is not tuple:
            yield from keys_of(below, name)
        if below is not entry.annotation:
            yield section, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert [target for target in relative_links(page) if not (page.parent / target).exists()] == []


def test_the_table_of_phases_is_the_codes() -> None:
    table = text_of("rollout.md").partition("## Phases")[2].partition("\n\nA rollout has")[0]
    written = {name: set(re.findall(r"`(\w+)`", moves)) for name, moves in MOVE.findall(table)}
    assert written == {phase.value: {after.value for after in moves} for phase, moves in MOVES.items()}


@pytest.mark.parametrize("cause", Cause)
def test_every_reason_code_is_explained(cause: Cause) -> None:
    assert f"| `{cause.value}` |" in text_of("rollout.md")


@pytest.mark.parametrize("word", [*Phase, *Kind])
def test_every_phase_and_kind_is_among_the_words(word: Phase | Kind) -> None:
    assert f"`{word.value}`" in text_of("nomenclature.md")


@pytest.mark.parametrize("step", STEP_TYPES, ids=lambda step: step.__name__)
def test_every_step_has_its_place_in_a_rollout(step: type) -> None:
    assert f"`{step.__name__}`" in text_of("rollout.md")


def commands() -> Iterator[str]:
    """All of them, as a person types them."""
    shown = typer.Typer()
    for group in (deploying, planning, changing, reading, history, errand, rollouts, maintenance, dns):
        group.add_to(shown)
    doctor.add_to(shown, lambda data_dir: ())
    service.add_to(shown, lambda argv: 0)
    tree = typer.main.get_command(shown)
    for name, command in getattr(tree, "commands", {}).items():
        below = getattr(command, "commands", {})
        yield from (f"{name} {verb}" for verb in below) if below else (name,)


def test_every_command_has_its_example() -> None:
    text = text_of("guide/commands.md")
    found = list(commands())
    assert len(found) > 20
    assert [name for name in found if not re.search(rf"\*\*`rota {name}\b", text)] == []


def explained_keys() -> set[tuple[str, str]]:
    """The keys in the first column of the page's tables; a heading of one word in code is their section."""
    found, section = set(), ""
    for line in text_of("guide/rota-yaml.md").splitlines():
        if line.startswith("## "):
            heading = re.fullmatch(r"## `(\w+)`", line)
            section = heading[1] if heading else ""
        elif row := re.match(r"\| `([\w.]+)` \|", line):
            before, _, key = row[1].rpartition(".")
            found.add((before or section, key))
    return found


def test_the_file_s_keys_are_explained_and_no_others() -> None:
    assert explained_keys() == set(keys_of(AppSpec))


def test_every_decision_is_listed() -> None:
    pages = {path.name for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md")}
    assert set(relative_links(ROOT / "docs" / "decisions" / "README.md")) == pages
    assert sorted(name[:4] for name in pages) == [f"{number:04}" for number in range(1, len(pages) + 1)]
