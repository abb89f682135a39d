"""The pages that extend spice work as they are shown; tests/docs has the others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run_command(folder: Path, page: str, *more: str) -> subprocess.CompletedProcess[str]:
    """The page's command, on a small pool and with nothing behind the selection."""
    [command] = blocks(page, "bash")
    path, plugins, program, *arguments = command.split()
    assert (path, program) == ("PYTHONPATH=.", "spice")
    name, _, package = plugins.partition("=")
    small = ["data.size=40", "finetune=none", "benchmarks=none", "logger=csv", "cache_dir=cache"]
    paths = f"{folder}{os.pathsep}{ROOT}"
    return subprocess.run(
        [sys.executable, "-m", "spice", *arguments, *small, *more], cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, name: package}, capture_output=True, text=True,
    )  # fmt: skip


def write_yaml(folder: Path, page: str, name: str) -> None:
    (folder / "conf/selector").mkdir(parents=True)
    [text] = blocks(page, "yaml")
    (folder / f"conf/selector/{name}.yaml").write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_the_selector_of_the_page_runs_from_a_folder_of_its_own(tmp_path: Path) -> None:
    [code] = blocks("add_a_selector", "python")
    (tmp_path / "hardest.py").write_text(code, encoding="utf-8")
    write_yaml(tmp_path, "add_a_selector", "hardest")
    done = run_command(tmp_path, "add_a_selector", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    chosen = json.loads((tmp_path / "run/selection.json").read_text())
    assert (chosen["k"], chosen["selector"]) == (4, "hardest")
    assert chosen["scores"] == sorted(chosen["scores"], reverse=True)
    refused = run_command(tmp_path, "add_a_selector", "selector.share=2", "hydra.run.dir=other")
    assert (refused.returncode, "selector.share=2" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_the_signal_of_the_page_is_read_and_planned(tmp_path: Path) -> None:
    signal, selector = blocks("add_a_signal", "python")
    (tmp_path / "entropy.py").write_text(signal, encoding="utf-8")
    (tmp_path / "surest.py").write_text(selector, encoding="utf-8")
    write_yaml(tmp_path, "add_a_signal", "surest")
    planned = run_command(tmp_path, "add_a_signal", "plan=true", "hydra.run.dir=plan")
    assert planned.returncode == 0, planned.stderr
    stages = json.loads((tmp_path / "plan/plan.json").read_text())
    assert [stage["stage"] for stage in stages] == ["entropy", "selection"]
    assert stages[0]["disk"] == 40 * 4
    done = run_command(tmp_path, "add_a_signal", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    chosen = json.loads((tmp_path / "run/selection.json").read_text())
    assert len(chosen["scores"]) == chosen["k"] == 4
    assert chosen["scores"] == sorted(chosen["scores"], reverse=True)
    assert max(chosen["scores"]) < 0  # entropies are above 0
    # The key follows the file, and what a user edits is read anew.
    (tmp_path / "entropy.py").write_text(signal + "# an edit\n", encoding="utf-8")
    run_command(tmp_path, "add_a_signal", "hydra.run.dir=again")
    keys = [json.loads((tmp_path / run / "results.json").read_text())["keys"]["entropy"]
            for run in ("run", "again")]  # fmt: skip
    assert keys[0] != keys[1]


def test_the_step_of_the_page_runs_where_it_is_put(
    start: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spice.pipeline import run

    step, line = blocks("add_a_step", "python")
    (tmp_path / "vocabulary.py").write_text(step, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, Any] = {**vars(run)}
    exec("from vocabulary import CountWords", names)
    exec(compile(line, "add_a_step.md", "exec"), names)
    kept = [type(step).__name__ for step in names["STEPS"]]
    assert [name for name in kept if name != "CountWords"] == [type(s).__name__ for s in run.STEPS]
    monkeypatch.setattr(run, "STEPS", names["STEPS"])
    first = start("selector=random", "finetune=none")
    found = json.loads((tmp_path / "run0/vocabulary.json").read_text())
    chosen = map(json.loads, (tmp_path / "run0/selected.jsonl").read_text().splitlines())
    words = [word for row in chosen for word in row["response"].split()]
    assert found == {"words": len(set(words)), "once": sum(words.count(w) == 1 for w in words)}
    assert "vocabulary" in first["keys"]
    assert "vocabulary" in start("selector=random", "finetune=none")["reused"]
    start("selector=random", "finetune=none", "plan=true")
    planned = json.loads((tmp_path / "run2/plan.json").read_text())
    assert "vocabulary" in [stage["stage"] for stage in planned]


def test_the_walk_of_one_run_names_at_most_fifteen_files_once_each() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    files = re.findall(r"(?m)^\d+\. \[`([^`]+)`\]", text)
    assert len(files) == len(set(files)) <= 15
    named = re.findall(r"`(spice/[\w/]+\.py)`", text.split("## The rooms")[0])
    assert sorted(named) == sorted(files)


def test_every_room_of_the_table_exists_and_every_room_is_in_it() -> None:
    table = (DOCS / "architecture.md").read_text(encoding="utf-8").split("## The rooms")[1]
    first = "".join(re.findall(r"(?m)^\| (`.*?) \|", table))
    named = set(re.findall(r"`([a-z_]+(?:/|\.py))`", first))
    package = ROOT / "spice"
    rooms = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    floor = {path.name for path in package.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert named == rooms | floor


def test_every_make_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [named] = re.findall(r"(?m)^\.PHONY: (help .*)$", makefile)
    for target in set(named.split()) - {"$(TABLES)"}:
        assert re.search(rf"(?m)^{target}:.*## ", makefile), target
