"""The live display of real runs on a terminal, and where there is none."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf
from terminal import on_a_terminal, screen

from spice.pipeline import launchers, shown
from spice.pipeline.jobs import Jobs
from spice.storage.files import write_json

FAST = ["data.size=60", "budget=4", "finetune=none", "benchmarks=none", "logger=csv", "trainer=cpu"]


@pytest.mark.slow
def test_a_sweep_on_a_terminal_has_its_steps_and_jobs_below_its_lines(tmp_path: Path) -> None:
    first = tmp_path / "sweep/0/results.json"
    command = [
        sys.executable, "-m", "spice", "-m", "selector=random,full", *FAST,
        f"cache_dir={tmp_path / 'cache'}", f"hydra.sweep.dir={tmp_path / 'sweep'}",
    ]  # fmt: skip
    code, _, end = on_a_terminal(command, columns=150, until=first)
    assert code == 0
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", end)
    for name in ("pool", "tokens", "signals", "selection", "finetune", "scores", "results"):
        assert re.search(rf"✓ {name} +\d", drawn), name
        assert re.search(rf"^  {name}", drawn, re.MULTILINE), name
    assert "sweep: 0 of 2 jobs finished, 2 left; now selector=random" in drawn
    assert "sweep: 1 of 2 jobs finished, 1 left; now selector=full" in drawn
    log = [line.split(" ", 3)[3] for line in _lines(tmp_path / "sweep/0/run.log")]
    seen = screen(end, 150)
    long = [line for line in log if len(line) > 150]
    assert [line for line in log if line not in long and line not in seen] == []
    assert all(line[:150] in seen for line in long)
    assert not any("✓" in line or line.startswith("sweep: ") for line in seen)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
def test_without_progress_a_terminal_has_the_lines_alone(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "spice", *FAST, "selector=random", "trainer.progress=false",
        f"cache_dir={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / 'run'}",
    ]  # fmt: skip
    code, _, end = on_a_terminal(command, columns=150)
    assert code == 0
    assert "done  " in end
    assert "\x1b[" not in end


@pytest.mark.parametrize(
    ("launcher", "here"),
    [
        ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", True),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", False),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", False),
    ],
)
def test_jobs_of_other_processes_draw_nothing(
    launcher: str, here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "fits", lambda stream: True)
    config = OmegaConf.create({"trainer": {"progress": True}, "names": {"overrides": []}})
    hydra: Any = SimpleNamespace(launcher={"_target_": launcher})
    alone = launchers.here(hydra)
    assert alone is here
    assert (shown.display_of(config, ["pool"], None, alone) is not None) is here
    config.trainer.progress = False
    assert shown.display_of(config, ["pool"], None, True) is None


def test_a_sweep_tells_what_is_done_failed_and_left(tmp_path: Path) -> None:
    states = ["finished", "failed", "stopped", "running", "waiting"]
    jobs = [{"state": state, "overrides": ["seed=0", f"budget={i}"]}
            for i, state in enumerate(states)]  # fmt: skip
    write_json(tmp_path / "sweep.json", {"jobs": jobs})
    assert len(Jobs(tmp_path).read()) == 5
    told = shown._standing(tmp_path, ["seed=0", "budget=3"])
    assert told == "sweep: 1 of 5 jobs finished, 1 failed, 3 left; now budget=3"
