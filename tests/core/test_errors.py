"""Errors carry what the command line and the API need to answer with."""

from __future__ import annotations

from rota.core.errors import CapacityError, Problem, RotaError, SpecError


def test_a_problem_reads_as_compilers_write_theirs() -> None:
    assert str(Problem("wrong", 12, 3)) == "rota.yaml:12:3: wrong"
    assert str(Problem("too big", file="x.tar")) == "x.tar: too big"


def test_a_spec_error_lists_all_problems() -> None:
    error = SpecError([Problem("a", 1, 1), Problem("b", 2, 1)])
    assert error.message == "rota.yaml:1:1: a\nrota.yaml:2:1: b"
    assert (error.exit_code, error.status) == (3, 422)


def test_exit_codes_come_with_the_class() -> None:
    assert (RotaError("x").exit_code, CapacityError("x").exit_code) == (1, 3)
