"""What docs/ shows works as it is shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/add_a_selector.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def test_the_selector_of_the_page_runs_from_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "hardest.py").write_text(block("python"))
    (tmp_path / "conf/selector").mkdir(parents=True)
    (tmp_path / "conf/selector/hardest.yaml").write_text(block("yaml"))
    assignment, program, *arguments = block("bash").split()
    assert (assignment, program) == ("PYTHONPATH=.", "spice")
    small = ["data.size=40", "finetune=none", "benchmarks=none", "logger=csv", "cache_dir=cache"]
    command = [sys.executable, "-m", "spice", *arguments, *small, "hydra.run.dir=run"]
    paths = f"{tmp_path}{os.pathsep}{ROOT}"
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    chosen = json.loads((tmp_path / "run/selection.json").read_text())
    assert (chosen["k"], chosen["selector"]) == (4, "hardest")
    assert chosen["scores"] == sorted(chosen["scores"], reverse=True)
    refused = subprocess.run(
        [*command, "selector.share=2", "hydra.run.dir=other"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip
    assert (refused.returncode, "selector.share=2" in refused.stderr) == (2, True)


def test_every_file_that_the_page_names_exists() -> None:
    for target in re.findall(r"\]\((\.\./[^)]+)\)", PAGE):
        assert (ROOT / "docs" / target).is_file(), target
