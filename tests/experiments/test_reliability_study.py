"""The reliability study: commands that the product understands, lines, sentences, pictures."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from compose import composed
from halves import slow_but
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from experiments.evidence import KINDS, Difference
from experiments.reliability import report, runs, study, verdicts
from experiments.reliability.runs import SHIPPED, Line
from experiments.sweeps import BENCHMARKS
from spice.reporting.differences import holm

JOBS = [(SHIPPED, name) for name in study.SWEEPS]
JOBS += [(world, name) for world in study.WORLDS for name in study.IN_WORLDS]


@pytest.mark.parametrize(("world", "sweep"), slow_but(JOBS, JOBS[:4]), ids=str)
def test_every_sweep_composes(world: str, sweep: str, tmp_path: Path) -> None:
    program = study.command(world, 7, sweep, argparse.Namespace(to=tmp_path, split="validation"))
    overrides = [o for o in program[4:] if not o.startswith("hydra.")]
    parsed = OverridesParser.create().parse_overrides(overrides)
    for place in (0, -1):  # the first and the last job of the sweep
        config = composed(*[_value(override, place) for override in parsed])
        assert (config.data.seed, config.data.size, config.budget) == (7, 1200, 120)
        assert config.benchmarks.tasks.mbpp.split == "validation"


def _value(override: Override, place: int) -> str:
    if not override.is_sweep_override():
        return str(override.input_line)
    return f"{override.key_or_group}={list(override.sweep_string_iterator())[place]}"


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["selector=random"], "uniform"),
        (["selector=random", "selector.stratify=source"], "uniform within sources"),
        (["selector=random", "data.only=[clean]"], "oracle"),
        (["selector=spice"], "spice"),
        (["selector=spice", "selector.scale=unit"], "spice unit"),
        (study.SWEEPS["no_weights"][:-1], "logdet without weights"),
        (["selector=spice_consensus"], "spice_consensus"),
        (study.SWEEPS["no_logdet"][:-1], "weights without logdet"),
        (study.SWEEPS["sources"][:-1], "no regard to sources"),
        (study.SWEEPS["alone"][:-1], "no shares for sources"),
        (["selector=spice_consensus", "selector.penalty=0.5"], "λ = 0.5"),
        (["selector=spice_consensus", "selector.alpha=100"], "α = 100"),
        (["selector=spice_consensus", "selector.reliability.share=0.3"],
         "largest 0.3 of the votes"),
    ],
)  # fmt: skip
def test_settings_are_told_apart(overrides: list[str], name: str) -> None:
    config: Any = composed(*overrides)
    assert runs.setting(config, overrides[0].partition("=")[2]) == name


def line(setting: str, pool: int, average: float, world: str = SHIPPED, seed: int = 0) -> Line:
    return Line(
        world, setting, pool, seed, f"{world}/{pool}/made", 120, average,
        dict.fromkeys(BENCHMARKS, average), dict.fromkeys(KINDS, 20.0), 42.0,
        33.0 if setting == "spice_consensus" else None,
    )  # fmt: skip


def made(consensus: list[float], uniform: list[float]) -> list[Line]:
    found = [line("spice_consensus", pool, value) for pool, value in enumerate(consensus)]
    return found + [line("uniform", pool, value) for pool, value in enumerate(uniform)]


def test_lines_survive_the_file(tmp_path: Path) -> None:
    lines = made([80.0, 82.5], [60.0, 61.25])
    runs.save(lines, tmp_path / "runs.csv")
    assert runs.load(tmp_path / "runs.csv") == lines
    assert runs.merged(tmp_path, tmp_path / "runs.csv") == sorted(lines)


def test_a_record_from_before_splits_were_told_is_of_the_test_split(tmp_path: Path) -> None:
    runs.save(made([80.0], [60.0]), tmp_path / "runs.csv")
    text = (tmp_path / "runs.csv").read_text(encoding="utf-8")
    text = text.replace(",estimated,split", ",estimated").replace(",test,", ",")
    (tmp_path / "old.csv").write_text(text, encoding="utf-8")
    assert runs.load(tmp_path / "old.csv") == runs.load(tmp_path / "runs.csv")


def test_what_is_on_record_is_not_run_again_but_for_another_split() -> None:
    asked = {"pools": [1, 2], "worlds": [SHIPPED], "sweeps": ["methods", "none"]}
    record = [dataclasses.replace(line("spice", 1, 50.0), sweep=f"{SHIPPED}/1/methods")]
    left = study.left(argparse.Namespace(split="test", **asked), record)
    assert left == [(SHIPPED, 1, "none"), (SHIPPED, 2, "methods")]
    again = study.left(argparse.Namespace(split="validation", **asked), record)
    assert again == [(SHIPPED, 1, "none"), (SHIPPED, 1, "methods"), (SHIPPED, 2, "methods")]


@pytest.mark.parametrize(
    ("consensus", "begins"),
    [
        ([80.0, 82.0, 81.0], "Yes: spice_consensus over a uniform draw: +20.3"),
        ([64.0, 65.0, 66.0], "No: spice_consensus over a uniform draw: +4.3"),
        ([50.0, 51.0, 52.0], "No: spice_consensus over a uniform draw: -9.7"),
        ([40.0, 95.0, 61.0], "It cannot be told: spice_consensus over a uniform draw"),
    ],
)
def test_sentences_follow_from_the_numbers(consensus: list[float], begins: str) -> None:
    first, *others = verdicts.sentences(report.Evidence(made(consensus, [60.0, 61.0, 61.0])))
    assert first.startswith(begins)
    assert all(sentence.startswith("It cannot be told: ") for sentence in others)  # no runs


@pytest.mark.parametrize(
    ("gap", "above", "not_below", "harmless"),
    [
        (Difference(10, 2, 0.0), "Yes: ", "Not below: ", "Above: "),
        (Difference(5, 2, 0.0), "No: ", "Not below: ", "Above: "),  # a gain of less than eight
        (Difference(9, 12, 0.1), "It cannot", "It cannot", "Not below by more"),
        (Difference(-5, 6, 0.1), "No: ", "It cannot", "Not below by more"),
        (Difference(1, 2, 0.3), "No: ", "It cannot", "Not below by more"),  # 8 is ruled out
        (Difference(-5, 2, 0.0), "No: ", "Below: ", "Below: "),
        (None, "It cannot", "It cannot", "It cannot"),
    ],
)
def test_every_verdict_falls_either_way(
    gap: Difference | None, above: str, not_below: str, harmless: str
) -> None:
    assert verdicts._above(gap, "x", 8.0).startswith(above)
    assert verdicts._not_below(gap, "x").startswith(not_below)
    assert verdicts._harmless(gap, "x").startswith(harmless)
    nothing_asked = verdicts._above(gap, "x")
    assert nothing_asked.startswith("Yes: ") == (gap is not None and gap.low > 0)


def test_differences_are_paired_by_pool_and_seed_and_a_pool_s_seeds_averaged() -> None:
    lines = [*made([80.0, 70.0], [60.0, 50.0]), line("uniform", 0, 10.0, seed=2)]
    lines += [line("spice_consensus", 0, 80.0, seed=1), line("uniform", 0, 64.0, seed=1)]
    gap = report.Evidence(lines).minus("spice_consensus", "uniform")
    assert gap is not None  # seed 2 has no partner
    assert gap.mean == pytest.approx((18 + 20) / 2)
    assert gap.half == pytest.approx(12.706, rel=1e-3)  # Student's, one degree of freedom


def test_holms_correction_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "c": 0.06, "b": 0.06}
    )
    assert Difference.of([1.0, 1.0, 1.0]).p == 0
    assert Difference.of([0.0, 0.0]).p == 1


def test_the_report_is_written_with_its_figures(tmp_path: Path) -> None:
    lines = made([80.0, 82.0], [60.0, 61.0])
    lines += [line("spice_consensus", p, 93.0 + p, "clean") for p in (0, 1)]
    lines += [line("uniform", p, 93.0, "clean") for p in (0, 1)]
    report.write(lines, tmp_path)
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "| spice_consensus | 2 | 2 | 81.0 ± 12.7 | +20.5 ± 6.4 |" in text
    assert "| clean | 2 | 42 | 33 |" in text
    for name in ("scores", "kinds", "worlds"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000
