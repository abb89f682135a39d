"""The study's sweeps are commands that the product understands."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from compose import composed
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from experiments.evidence import Run
from experiments.penalty import report, study
from experiments.penalty.report import Setting, setting


@pytest.mark.parametrize("sweep", [name for name in study.SWEEPS if name != "matched"])
def test_every_sweep_composes(sweep: str, tmp_path: Path) -> None:
    arguments = argparse.Namespace(to=tmp_path, split="validation")
    program = study.command(7, sweep, arguments)
    overrides = [o for o in program[4:] if not o.startswith("hydra.")]
    parsed = OverridesParser.create().parse_overrides(overrides)
    for place in (0, -1):  # the first and the last job of the sweep
        config = composed(*[_value(override, place) for override in parsed])
        assert (config.data.seed, config.data.size, config.budget) == (7, 600, 60)
        assert config.benchmarks.tasks.mbpp.split == "validation"


def _value(override: Override, place: int) -> str:
    if not override.is_sweep_override():
        return str(override.input_line)
    return f"{override.key_or_group}={list(override.sweep_string_iterator())[place]}"


def test_the_matched_draws_copy_one_run_of_each_scale(tmp_path: Path) -> None:
    for i, (seed, penalty) in enumerate([(0, 0.1), (1, 0.1), (0, 0.5)]):
        folder = tmp_path / "3/global" / str(i)
        folder.mkdir(parents=True)
        config = {"seed": seed, "selector": {"penalty": penalty}}
        (folder / "selection.json").write_text(json.dumps({"config": config}))
    program = study.command(3, "matched", argparse.Namespace(to=tmp_path, split="test"))
    assert f"selector.like={tmp_path / '3/global/0'}" in program


def test_settings_are_told_apart() -> None:
    config: Any = composed("selector=spice", "selector.scale=unit", "schedule=pools")
    assert setting(config) == Setting("pools", "unit", 0.1)
    config = composed("selector=random", "data.only=[clean]")
    assert setting(config) == Setting("oracle")
    assert setting(composed("selector=random", "data.only=[clean,redundant]")).group == (
        "uniform of well-formed"
    )


def test_changes_and_gaps_are_paired(tmp_path: Path) -> None:
    plain, other = Setting("global", "raw"), Setting("global", "raw", 0.5)

    def run(name: Setting, pool: int, ids: list[str], average: float) -> Run:
        folder = tmp_path / f"{name.penalty}-{pool}"
        folder.mkdir()
        (folder / "selection.json").write_text(json.dumps({"ids": ids}))
        return Run(pool, 0, name, {"scores": {}, "average": average}, {}, folder)

    runs = {
        plain: [run(plain, 1, ["a", "b"], 0.5), run(plain, 2, ["c", "d"], 0.2)],
        other: [run(other, 1, ["b", "a"], 0.6), run(other, 2, ["c", "x"], 0.1)],
    }
    assert report.changed(runs, other) == [0.0, 50.0]
    assert report.gaps(runs, other, plain) == pytest.approx([10.0, -10.0])
