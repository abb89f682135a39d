"""Text is UTF-8, whatever the locale of the machine says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODES = ("'r'", "'w'", "'a'")
FILES = sorted([*(ROOT / "spice").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")])


def text_calls(tree: ast.AST) -> list[ast.Call]:
    """Calls that read or write text files by an encoding, named or not."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    methods = [(call, call.func.attr) for call in calls if isinstance(call.func, ast.Attribute)]
    texts = [call for call, name in methods if name in {"read_text", "write_text"}]
    opened = [call for call, name in methods if name == "open" and call.args]
    modes = [ast.unparse(call.args[0]) for call in opened]
    return [*texts, *(c for c, mode in zip(opened, modes, strict=True) if mode in MODES)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_text_file_is_opened_as_utf_8(path: Path) -> None:
    for call in text_calls(ast.parse(path.read_text(encoding="utf-8"))):
        named = [ast.unparse(k.value) for k in call.keywords if k.arg == "encoding"]
        assert named == ["'utf-8'"], f"{path}:{call.lineno}"
