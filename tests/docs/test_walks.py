"""The two pages that newcomers follow, walked from top to bottom on small pools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT, commands, of_spice

from spice.__main__ import COMMANDS

from .conftest import SMALL, run

pytestmark = pytest.mark.slow
#: what a page has from elsewhere: an installation, a shell, a mirror of benchmarks
ELSEWHERE = {"make", "source"}


def walk(folder: Path, page: str) -> list[str]:
    """Run a page's commands in a folder, one after the other; what each has printed."""
    told = []
    for words in commands(ROOT / "docs" / page):
        given = of_spice(words)
        if words[0] in ELSEWHERE or "benchmarks=paper" in words:
            continue
        if given is None:
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        elif given[0] in ("report", "export", "diagnose"):
            if given[0] not in COMMANDS:
                continue
            done = run(folder, *expanded(folder, given))
        else:
            small = SMALL if "data=jsonl" not in given else ["logger=csv"]
            done = run(folder, *given, *small)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stderr[-2000:]}"
        told.append(done.stdout)
    return told


def expanded(folder: Path, words: list[str]) -> list[str]:
    """Patterns of paths as a shell would hand them over."""
    found = [sorted(map(str, folder.glob(word))) if "*" in word else [word] for word in words]
    return [word for these in found for word in these]


def test_the_first_hour(sweep: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copytree(sweep.parents[1], home / "multirun")
    told = "\n".join(walk(home, "first_hour.md"))
    assert "nothing is wrong" in told
    assert "nothing was run" in told
    chosen = (home / "runs/first/selected.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(chosen) == 20
    assert sorted(home.glob("multirun/*/*/table.md")) != [
        home / "multirun/2026-01-01/00-00-00/table.md"
    ]


def test_your_own_pool(
    tmp_path: Path, records: list[dict[str, str]], make_checkpoint: Callable[..., Path]
) -> None:
    home = tmp_path / "home"
    (home / "checkpoints").mkdir(parents=True)
    for name in ("smollm2-135m-instruct", "small", "large"):
        os.symlink(make_checkpoint("llama"), home / "checkpoints" / name)
    lines = "\n".join(map(json.dumps, records))
    for name in ("mine.jsonl", "pool.jsonl", "examples.jsonl"):
        (home / name).write_text(lines + "\n", encoding="utf-8")
    told = walk(home, "your_own_pool.md")
    assert "40 rows of 2 sources" in told[0]
    chosen: list[Any] = [
        json.loads(line) for line in (home / "runs/mine/selected.jsonl").open(encoding="utf-8")
    ]
    assert len(chosen) == 4
    if "export" in COMMANDS:
        registry = json.loads(
            (home / "LLaMA-Factory/data/dataset_info.json").read_text(encoding="utf-8")
        )
        [entry] = registry.values()
        exported = json.loads(
            (home / "LLaMA-Factory/data" / entry["file_name"]).read_text(encoding="utf-8")
        )
        assert len(exported) == 4
