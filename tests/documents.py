"""What the README, docs/ and notebooks/ show: their blocks of code, and the commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md", ROOT / "notebooks/README.md", *sorted((ROOT / "docs").rglob("*.md")),
]  # fmt: skip
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: words of a shell that are no programs
SHELL = ("if ", "fi", "#")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, in their order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"(?m)^```{language}\n(.*?)^```", text, re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """All commands of a page's blocks of bash, as words; each stands on lines of its own."""
    text = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line and not _silent(line)]


def _silent(line: str) -> bool:
    return line.startswith(SHELL)


def of_spice(words: list[str]) -> list[str] | None:
    """What follows ``spice`` or ``-m spice`` in a command; None if it runs something else."""
    for i, word in enumerate(words):
        if word == "spice" or word.endswith("/spice"):
            return words[i + 1 :]
    return None
