"""The README's examples are run, or at least composed, as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from compose import composed

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("spice ")]


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_every_command_composes(arguments: list[str]) -> None:
    if "--config-path" in arguments:
        return  # replaying is run for real by test_cli
    overrides = [argument for argument in arguments if argument != "-m"]
    # A sweep's values, one after the other; a list in brackets is one value.
    singles = [re.sub(r"=([^\[,]+),.*", r"=\1", override) for override in overrides]
    composed(*singles)


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.split()) > 10


def test_every_room_of_the_tree_exists_and_every_room_is_in_it() -> None:
    tree = README.split("## The house")[1].split("```")[1].split("spice/ ")[1]
    tree = tree.split("experiments/")[0]
    named = set(re.findall(r"(?m)^  ([a-z_]+/)", tree)) | set(re.findall(r"\b\w+\.py\b", tree))
    package = Path(__file__).parent.parent / "spice"
    rooms = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    floor = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    assert named == rooms | floor


def test_every_make_target_is_explained() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    targets = (
        "help install demo bench faults real-checkpoint test test-slow lint format typecheck audit "
        "advisories clean"
    )
    for target in targets.split():
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target
