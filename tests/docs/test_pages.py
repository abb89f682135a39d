"""What the pages say of messages, numbers and files is what there is."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from documents import NOTEBOOKS, PAGES, ROOT, blocks, name

PACKAGE = ROOT / "spice"
TROUBLE = ROOT / "docs/troubleshooting.md"
MESSAGES = re.findall(r"(?m)^`(.+)`\n:   ", TROUBLE.read_text(encoding="utf-8"))
FEWEST = 4  # letters of a piece of a message that says something
RESULTS = ROOT / "experiments/reliability/RESULTS.md"
REAL = ROOT / "experiments/real/RESULTS.md"
CHOOSING = (ROOT / "docs/choosing_a_selector.md").read_text(encoding="utf-8")
#: what the studies call some of the selectors
CALLED = {
    "random": "uniform",
    "random_within_sources": "uniform within sources",
    "an oracle's clean rows": "oracle",
    "spice at unit length": "spice unit",
}


def literals(path: Path) -> list[str]:
    """The texts of a file, with … for what is put into them."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        if isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
            found.append("".join(map(str, parts)))
    return found


TEXTS = [text for path in sorted(PACKAGE.rglob("*.py")) for text in literals(path)]


def is_said(message: str) -> bool:
    """Whether one text of the source has all pieces of a message, in their order."""
    pieces = [re.escape(piece) for piece in message.split("…") if piece]
    assert max(len(re.sub(r"[^a-z]", "", piece)) for piece in pieces) >= FEWEST, message
    pattern = re.compile(".*?".join(pieces), re.DOTALL)
    return any(pattern.search(text) for text in TEXTS)


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_that_is_explained_is_one_of_the_source(message: str) -> None:
    assert is_said(message)


def test_an_invented_message_is_found_out() -> None:
    assert not is_said("budget=…: the pool has too few rows")
    assert len(MESSAGES) > 50


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"[+-]?\d+\.\d+", text.replace("−", "-"))]


def rows(text: str, heading: str) -> dict[str, list[str]]:
    """The first table under a heading: its cells by the first of them."""
    part = text.split(heading, 1)[1]
    lines = re.search(r"(?m)(^\|.*\n)+", part)
    assert lines
    cells = [[c.strip() for c in line[1:-1].split("|")] for line in lines[0].splitlines()]
    return {re.sub(r"`|\*| \(.*", "", first): rest for first, *rest in cells[2:]}


def test_scores_on_noisy_pools_are_those_of_the_study() -> None:
    ours = rows(CHOOSING, "### Pools with noise")
    theirs = rows(RESULTS.read_text(encoding="utf-8"), "## Methods")
    assert len(ours) == 17
    for selector, (average, difference) in ours.items():
        _, _, found, minus, *_ = theirs[CALLED.get(selector, selector)]
        assert numbers(average)[0] == numbers(found)[0], selector
        if numbers(minus):
            mean, half = numbers(minus.replace("± ", "± +"))
            assert numbers(difference) == pytest.approx([mean, mean - half, mean + half], abs=0.11)


def test_losses_on_real_rows_are_those_of_the_study() -> None:
    ours = rows(CHOOSING, "### Real rows")
    text = REAL.read_text(encoding="utf-8")
    theirs, broken = rows(text, "## Loss on rows"), rows(text, "## Broken rows")
    for selector, (difference, planted) in ours.items():
        method = CALLED.get(selector, selector)
        assert numbers(difference) == pytest.approx(numbers(theirs[method][2]), abs=6e-4), selector
        if planted:
            assert numbers(planted)[0] == numbers(broken[method][1])[0], selector


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=name)
def test_every_file_that_a_page_links_to_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[)#]", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


def test_every_page_is_on_the_map() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    shown = set(re.findall(r": ([\w/]+\.md)", nav)) - {"index.md"}
    assert shown == {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}


def test_the_readme_reads_in_two_minutes() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    prose = re.sub(r"(?ms)^```.*?^```|^\|.*?$", "", text)
    assert len(prose.split()) < 450
    assert len(text.splitlines()) < 110
    assert len(re.findall(r"!\[", text)) == 1


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_a_notebook_is_stored_without_outputs_and_defines_nothing(notebook: Path) -> None:
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            tree = ast.parse("".join(cell["source"]))
            defining = ast.FunctionDef | ast.ClassDef | ast.Lambda | ast.AsyncFunctionDef
            assert not [node for node in ast.walk(tree) if isinstance(node, defining)]
        assert not cell["metadata"]


def test_examples_of_rows_are_rows() -> None:
    for page in PAGES:
        for example in blocks(page, "json"):
            assert {"instruction", "response"} <= set(json.loads(example))
