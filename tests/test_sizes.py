"""No part of the package outgrows a screen or two: files, classes and functions stay small."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

import spice

PACKAGE = Path(spice.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
FILE, CLASS, FUNCTION, TYPICAL = 350, 200, 40, 10

Function = ast.FunctionDef | ast.AsyncFunctionDef


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def lines(node: ast.stmt) -> int:
    """From the line with the name to the last one; decorators stand above."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_bytes()))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_and_what_is_in_it_are_of_a_size_that_can_be_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE
    for node in nodes(path):
        if isinstance(node, Function):
            assert lines(node) <= FUNCTION, f"{path}:{node.lineno} {node.name}"
        if isinstance(node, ast.ClassDef):
            assert lines(node) <= CLASS, f"{path}:{node.lineno} {node.name}"


def test_the_typical_function_is_short() -> None:
    found = [lines(node) for path in FILES for node in nodes(path) if isinstance(node, Function)]
    assert statistics.median(found) < TYPICAL
