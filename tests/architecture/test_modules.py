"""The rules of the tree that no tool of the shelf checks: sizes, names, what the core and the keeper may import."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "rota"
MODULES = sorted(PACKAGE.rglob("*.py"))
CORE = sorted((PACKAGE / "core").rglob("*.py"))
KEEPER = sorted([*PACKAGE.glob("keeper.py"), *PACKAGE.glob("keeper/**/*.py")])

IMPURE = {"asyncio", "logging", "os", "random", "socket", "sqlite3", "subprocess", "threading", "time", "uuid"}
VAGUE = {"manager", "helper", "helpers", "util", "utils", "handler", "handlers", "data", "info"}
TERM = re.compile(r"data_dir(ectory)?")  # the command line's own word, and it says what it is
MODULE_LINES = 400


def module_id(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(tree: ast.Module) -> set[str]:
    """The modules named in import statements, at any depth of the code; relative ones begin with a dot."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


def words_of(name: str) -> list[str]:
    """``HTTPServer_info`` is http, server, info."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)]


def vague_names(path: Path) -> list[str]:
    stem = path.parent.name if path.stem == "__init__" else path.stem
    names = [stem]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(node.name)
            if not isinstance(node, ast.ClassDef) and node.name == "process":
                return ["process()"]
    return [name for name in names if VAGUE & set(words_of(TERM.sub("", name)))]


def test_the_tree_is_where_the_tests_look() -> None:
    assert len(MODULES) > 10
    assert len(CORE) > 5


@pytest.mark.parametrize("path", [path for path in MODULES if path.stat().st_size], ids=module_id)
def test_a_module_opens_with_what_it_owns(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)), "no docstring"


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_a_module_is_about_one_noun(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_names_say_what_a_thing_is(path: Path) -> None:
    assert vague_names(path) == []


@pytest.mark.parametrize("path", CORE, ids=module_id)
def test_the_core_imports_nothing_impure(path: Path) -> None:
    assert {name.partition(".")[0] for name in imported(tree_of(path))} & IMPURE == set()


def test_the_keeper_imports_nothing_of_rota_but_itself() -> None:
    """It outlives the daemon and its upgrades: what it does not import cannot change under it."""
    of_rota = {name for path in KEEPER for name in imported(tree_of(path)) if name.split(".")[0] == "rota"}
    assert {name for name in of_rota if name.split(".")[:2] != ["rota", "keeper"]} == set()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("HTTPServer_info", ["http", "server", "info"]),
        ("RolloutManager", ["rollout", "manager"]),
        ("_read_data", ["read", "data"]),
        ("database", ["database"]),
    ],
)
def test_names_are_split_into_words(name: str, words: list[str]) -> None:
    assert words_of(name) == words
