"""The study's sweeps are commands that the product understands."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from compose import composed
from halves import slow_but

from experiments.evidence import interval
from experiments.sandbox import study
from experiments.sandbox.report import setting


@pytest.mark.parametrize("models", slow_but([None, Path("/some/models")], [None]))
@pytest.mark.parametrize(
    "sweep", ["base", "controls", "oracle", "contradicting", "greedy", "gains"]
)
def test_every_sweep_composes(sweep: str, models: Path | None, tmp_path: Path) -> None:
    arguments = argparse.Namespace(models=models, split="validation")
    program = study.command(7, sweep, arguments, tmp_path)
    overrides = [o for o in program[4:] if not o.startswith("hydra.")]
    names = [override.partition("=")[0] for override in overrides]
    assert len(set(names)) == len(names)
    for place in (0, -1):  # the first and the last job of the sweep
        jobs = [o if "[" in o else _value(o, place) for o in overrides]
        config = composed(*jobs)
        assert config.data.seed == 7
        assert config.proxy.get("path") == (
            models and str(models / config.proxy.path.split("/")[-1])
        )


def _value(override: str, place: int) -> str:
    name, _, values = override.partition("=")
    return f"{name}={values.split(',')[place]}"


def test_settings_are_told_apart() -> None:
    config = composed("selector=spice", "selector.scale=unit")
    assert setting(config) == "spice unit"
    assert setting(composed("selector=random", "data.only=[clean]")) == "oracle"
    assert setting(composed("selector=none")) == "base"


def test_an_interval_is_students_over_the_pools() -> None:
    assert interval([1.0, 2.0, 3.0]) == "2.0 ± 2.5"  # 4.3027 * 1 / sqrt(3)
    assert interval([4.0]) == "4.0"
