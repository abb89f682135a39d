"""Docstrings say of which shape arrays are, and which errors a function raises, and when."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import spice

PACKAGE = Path(spice.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

ARRAYS = re.compile(r"\b(ndarray|Tensor|Tensors|Rows|Batch)\b")
AXIS = "[ndkbtmhpqv]"  # the legend is in spice/records.py
SHAPE = re.compile(
    rf"""
      \b{AXIS}\ ×\ \S                                # n × d, b × t × out, m × 2
    | \w\ ×\ \(?{AXIS}\b                             # needed × v
    | \({AXIS}(,\ [^)]+|\ [a-z][^)]*)?\)             # (n), (b, nats), (b supervised tokens)
    | ``\ {AXIS}(?=[\s,.;:)]|$)                      # ``weights`` n
    | ,\ {AXIS}(?=[.,;:)]|\ each\b|$)                # the table, n.  counts, n each
    | \b{AXIS}\ (whole\ )?(numbers|values|positions)\b       # n whole numbers
    | \bscalar\b
    """,
    re.VERBOSE | re.MULTILINE,
)
SHAPED = [
    "Gradients n × d of all rows.",
    "K (n × n, float64) of the rows.",
    "Per row the log-probabilities: needed × v float32.",
    "A mask (n) of what is free.",
    "Returns ``nll`` (b, nats, float32) and ``count`` (b supervised tokens).",
    "``weights`` n, if any, say how far.",
    "The table, n.",
    "``support`` and ``net``, n each.",
    "n whole numbers; rows with the same one judge each other.",
    "The loss, a scalar.",
]
SHAPELESS = [
    "",
    "One more column of the Cholesky factor.",
    "Pick k of n, ties to the smaller position.",
    "How far from the best k rows a run can be.",
    "``leverage`` is λ × the spread of the ten best candidates' conflicts.",
    "With α, n and d as they are, the best way.",
    "Up to (and without) the last row.",
    "``notes`` are said aloud.",
]

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def public(node: Function | ast.ClassDef) -> bool:
    return not node.name.startswith("_")


def parts(path: Path) -> Iterator[tuple[ast.ClassDef | None, Function]]:
    """All functions and methods, each with its class; those of private classes left out."""
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, Function):
            yield None, node
        if isinstance(node, ast.ClassDef) and public(node):
            yield from ((node, inner) for inner in node.body if isinstance(inner, Function))


def handles_arrays(function: Function) -> bool:
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    notes = [argument.annotation for argument in arguments if argument] + [function.returns]
    return any(ARRAYS.search(ast.unparse(note)) for note in notes if note)


def raised(node: ast.AST) -> Iterator[str]:
    """The errors that a body makes itself; functions in it have bodies of their own."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(child, ast.Raise) and child.exc is not None:
            made = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
            error = ast.unparse(made).rpartition(".")[2]
            if error[0].isupper() and error != "NotImplementedError":  # else one that was caught
                yield error
        yield from raised(child)


def says_when(error: str, doc: str) -> bool:
    """Whether some sentence names the error and has more to say of it."""
    sentences = re.split(r"(?<=[.;])\s|\n\s*\n|\n(?=\s+\w+Error:)", doc)
    return any(re.search(rf"\b{error}\b", s) and len(s.split()) >= 4 for s in sentences)


@pytest.mark.parametrize("doc", SHAPED)
def test_a_shape_is_seen(doc: str) -> None:
    assert SHAPE.search(doc)


@pytest.mark.parametrize("doc", SHAPELESS)
def test_prose_is_no_shape(doc: str) -> None:
    assert not SHAPE.search(doc)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_arrays_have_their_shape_in_the_docstring_or_its_class(path: Path) -> None:
    for owner, function in parts(path):
        if not (public(function) and handles_arrays(function)):
            continue
        docs = [ast.get_docstring(node) or "" for node in (function, owner) if node]
        assert any(map(SHAPE.search, docs)), f"{path}:{function.lineno} {function.name}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_errors_are_named_with_their_reason(path: Path) -> None:
    for owner, function in parts(path):
        makes = function.name in {"__init__", "__post_init__"}
        if not (public(function) or makes):
            continue
        doc = ast.get_docstring(owner if makes and owner else function) or ""
        for error in raised(function):
            where = f"{path}:{function.lineno} {function.name}: {error}"
            assert says_when(error, doc), where
            assert "Raises:" in doc or not makes, where
