"""Names and texts that mean harm, from the command line to the last page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EVIL = ("\x1b[31mred\x1b[0m", "\u202ereversed", "a\rb", "<script>", "$x^{", "a\nb", "../../x")


def spice(folder: Path, *options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "spice", *options, "hydra.run.dir=deep/run", "logger=csv"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SPICE_CACHE": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def obeyed(text: str) -> bool:
    return any(sign in text for sign in "\x1b\u202e\r")


@pytest.mark.slow
def test_hostile_rows_reach_no_terminal_log_or_page(tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {i} {s}", "response": s, "source": s} for i, s in enumerate(EVIL)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "pool.jsonl").write_text(lines, encoding="utf-8")
    code, told = spice(
        tmp_path, "data=jsonl", "data.paths=[pool.jsonl]", "selector=random", "budget=4",
        "finetune=none", "benchmarks=none",
    )  # fmt: skip
    assert code == 0, told
    assert "sources with control characters" in told
    pages = ("run.log", "card.md", "card.html")
    texts = [(tmp_path / "deep/run" / name).read_bytes().decode() for name in pages]
    assert not [text for text in (told, *texts) if obeyed(text)]
    assert {path.name for path in tmp_path.iterdir()} == {"pool.jsonl", "cache", "deep"}


@pytest.mark.slow
def test_hostile_options_are_refused_in_one_line_that_obeys_nobody(tmp_path: Path) -> None:
    named = "+benchmarks.tasks={../../x: ${benchmarks.tasks.mmlu}}"
    for option, key in (
        (named, "benchmarks.tasks"),
        ("data.paths=['\x1b[2J.jsonl']", "data.paths"),
    ):
        code, told = spice(tmp_path, "data=jsonl", "data.paths=[x]", option, "budget=1")
        assert (code, told.count("\n")) == (2, 1), told
        assert key in told
        assert not obeyed(told)
