"""A plan against the run that it speaks of, and its sums against plain ones."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from compose import composed
from halves import slow_but
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig

from spice.cli.explain import conf_dir
from spice.data.batch_limit import BatchLimit
from spice.data.rendering import Example
from spice.gradients.work import Work, training
from spice.models.checkpoint import Checkpoint
from spice.models.device import memory
from spice.models.memory import SLACK, Footprint
from spice.pipeline.components import make
from spice.pipeline.plan import report
from spice.pipeline.plan.arithmetic import GreedyRun, greedy_seconds
from spice.pipeline.plan.planned import Planned
from spice.pipeline.plan.probe import Memory, Speed, chosen
from spice.pipeline.plan.shape import Shapes
from spice.training.recipe import Recipe

Run = Callable[..., dict[str, Any]]
SELECTORS = sorted(path.stem for path in (conf_dir() / "selector").glob("*.yaml"))
RECIPE = Recipe(3, None, 1e-3, "linear", 0.0, 0.0, 1.0, 8, 4, 10)


def plan(start: Run, tmp_path: Path, *overrides: str) -> dict[str, dict[str, Any]]:
    """The planned stages by name."""
    folder = tmp_path / f"plan-{len(list(tmp_path.glob('plan-*')))}"
    start("plan=true", *overrides, folder=folder)
    return {stage["stage"]: stage for stage in json.loads((folder / "plan.json").read_text())}


def reading(lengths: list[int]) -> Any:
    return SimpleNamespace(examples=[Example([5] * n, n // 2) for n in lengths])


# -- a plan and its run ----------------------------------------------------------------------------


def test_a_plan_runs_nothing_and_names_what_will_run(start: Run, tmp_path: Path) -> None:
    planned = plan(start, tmp_path)
    assert list(planned) == ["gradients", "greedy", "selection", "finetune"]
    assert not any(stage["there"] for stage in planned.values())
    kept = {"probes", "rows", "tokens", "weights"}
    assert {path.name for path in (tmp_path / "cache").iterdir()} == kept
    assert {p.name for p in (tmp_path / "plan-0").iterdir()} == {"plan.json", "audit.json"}
    results = start()
    for stage in ("gradients", "selection"):
        assert planned[stage]["key"] == results["keys"][stage]
    stored = sum(p.stat().st_size for p in (tmp_path / "cache/gradients").rglob("*.safetensors"))
    assert planned["gradients"]["disk"] == pytest.approx(stored, rel=0.05)
    adapter = (tmp_path / "run0/adapter/adapter_model.safetensors").stat().st_size
    assert planned["finetune"]["disk"] == pytest.approx(adapter, rel=0.2)
    for stage in planned.values():
        assert stage["seconds"] > 0
        assert stage["memory"] > 2**20


@pytest.mark.slow
def test_what_is_there_is_not_planned_again(start: Run, tmp_path: Path) -> None:
    start()
    again = plan(start, tmp_path)
    assert all(stage["there"] for stage in again.values())
    assert again["gradients"]["disk"] > 40 * 4
    other = plan(start, tmp_path, "selector.penalty=0.7")
    assert [name for name, stage in other.items() if not stage["there"]] == [
        "greedy",
        "selection",
        "finetune",
    ]


def test_a_choice_that_reads_nothing_is_known_beforehand(start: Run, tmp_path: Path) -> None:
    start("selector=random")
    assert plan(start, tmp_path, "selector=random")["finetune"]["there"]
    assert not plan(start, tmp_path, "selector=random", "seed=1")["finetune"]["there"]
    assert "finetune" not in plan(start, tmp_path, "selector=none")
    full = plan(start, tmp_path, "selector=full")["finetune"]
    assert (
        full["seconds"]
        > 3 * plan(start, tmp_path, "selector=random", "seed=1")["finetune"]["seconds"] - 1
    )  # the model's loading is in both


@pytest.mark.parametrize("selector", slow_but(SELECTORS, {"random", "spice_consensus"}))
def test_every_selector_has_a_plan(selector: str, start: Run, tmp_path: Path) -> None:
    more = []
    if selector == "random_matched":
        start("selector=random", "finetune=none")
        more = [f"selector.like={tmp_path / 'run0'}"]
    if selector in {"less", "rds", "spice_targeted", "tsds"}:  # which aim at a benchmark's examples
        more = ["benchmarks=sandbox", "benchmarks.only=mmlu"]
    planned = plan(start, tmp_path, f"selector={selector}", "finetune=none", *more)
    assert [name for name in planned if name != "scores"][-1] == "selection"
    if selector in {"spice_consensus", "spice_targeted"}:
        assert planned["reliability"]["seconds"] > 0
        assert planned["reliability"]["memory"] > 0
    if selector in {"spice", "spice_consensus", "ifd", "lead"}:
        results = start(f"selector={selector}", "finetune=none")
        assert set(planned) - {"greedy"} == set(results["keys"])


def test_scores_are_planned_by_asking_a_batch(start: Run, tmp_path: Path) -> None:
    few, all_of_them = (
        plan(start, tmp_path, "selector=none", "benchmarks=sandbox", "benchmarks.only=mmlu",
             "benchmarks.batch_size=8", *limit)["scores"]
        for limit in (["benchmarks.limit=12"], [])
    )  # fmt: skip
    assert 0 < few["seconds"] < all_of_them["seconds"]
    assert few["memory"] > 2**20


@pytest.mark.slow
def test_windows_are_planned_as_what_they_read_and_train(start: Run, tmp_path: Path) -> None:
    frozen, trained = (
        plan(start, tmp_path, "schedule=pools", f"schedule.train_proxy={train}")["selection"]
        for train in ("false", "true")
    )
    assert 0 < frozen["seconds"] < trained["seconds"]


@pytest.mark.slow
def test_a_plan_beyond_a_limit_is_refused(
    start: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start("plan=true", "limits.disk_gb=1", "limits.hours=1", "limits.memory_gb=64")
    for limit in ("disk_gb=1e-7", "hours=1e-7", "memory_gb=0.001"):
        with pytest.raises(SystemExit) as refused:
            start("plan=true", f"limits.{limit}")
        assert refused.value.code == 2
        assert f"spice: limits.{limit.split('=')[0]}=" in capsys.readouterr().err


# -- its sums --------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 8))
def test_time_is_that_of_the_padded_tokens(lengths: list[int], rows: int) -> None:
    takes = Footprint(kept=3.0, recomputed=2.0, passing=1.0, cached=0.0, fixed=7, row=11)
    speed = Speed([10, 60], [2.0, 2.0], load=5.0, base=100, takes=takes, size=1)
    found = Work("gradients", reading([]), lengths, times=0.5)
    ordered = sorted(lengths, reverse=True)
    padded = [len(ordered[i : i + rows]) * ordered[i] for i in range(0, len(ordered), rows)]
    limit = BatchLimit(rows, 10**6)
    assert speed.time(found, limit) == pytest.approx(5.0 + 0.5 * 2.0 * sum(padded))
    told = 100 + 7 + 11 * min(rows, len(lengths)) + SLACK * 3.0 * max(padded)
    assert speed.memory(found, limit) == pytest.approx(told, abs=1)


def test_longer_rows_may_cost_more_per_token() -> None:
    speed = Speed(
        [10, 30], [1.0, 3.0], load=0.0, base=0, takes=Footprint(1.0, 1.0, 1.0, 1.0, 0), size=1
    )
    costs = [
        speed.time(Work("forward", reading([]), [n]), BatchLimit(1, 99)) for n in (5, 10, 20, 40)
    ]
    assert costs == pytest.approx([5, 10, 20 * 2, 40 * 3])


def test_training_goes_over_its_rows_as_often_as_its_recipe_says() -> None:
    pool = reading([10] * 20 + [1])  # the last has nothing to learn from: n // 2 = 0 … 1 token
    count = sum(example.supervised > 0 for example in pool.examples)
    work = training(pool, RECIPE, 5)
    assert work.times == pytest.approx(3 * 5 / count)
    assert work.batches(work.within(BatchLimit(99, 9)))[:, 0].max() == 4
    short = training(pool, dataclasses.replace(RECIPE, max_steps=1), 5)
    assert short.times == pytest.approx(8 / count)


def test_a_probe_reads_some_twenty_rows_long_middling_and_short() -> None:
    work = Work("gradients", reading(list(range(2, 202))), range(2, 202))
    batches = chosen(work, BatchLimit(16, 10**6))
    assert [len(batch) for batch in batches] == [7, 7, 7]
    longest = [max(len(work.tokenized.examples[row].ids) for row in batch) for batch in batches]
    assert longest == pytest.approx([201, 101, 21], abs=2)
    few = Work("gradients", reading([4, 6]), [4, 6])
    assert chosen(few, BatchLimit(16, 10**6)) == [[0, 1]]


def test_memory_sees_what_was_held_for_a_moment() -> None:
    memory = Memory("cpu")
    before = memory.now()
    with memory:
        held = torch.ones(50_000_000)
        held += 1
        del held
    assert memory.peak - before > 100e6


@pytest.mark.parametrize("form", ["exact", "diag"])
def test_a_longer_greedy_is_told_to_take_longer(form: str) -> None:
    way = "dual" if form == "exact" else "auto"
    runs = (GreedyRun(n, 64, 20, form, way) for n in (500, 500_000))
    short, long = map(greedy_seconds, runs)
    assert long > 20 * short


def test_a_sweep_counts_what_its_jobs_share_once() -> None:
    shared = Planned("gradients", "a", False, 10.0, 5, 100)
    jobs = [
        [Planned("selection", "b", False, 1.0, 7, 0), shared],
        [shared, Planned("selection", "c", False, 2.0, 6, 0)],
        [shared, Planned("selection", "d", True, 0.0, None, 30)],
        [shared, Planned("selection", "e", False, None, None, 0)],
    ]
    found = report.lines([[dataclasses.asdict(stage) for stage in job] for job in jobs])
    assert [(line.stage, line.to_come, line.there) for line in found] == [
        ("gradients", 1, 0),
        ("selection", 3, 1),
    ]
    whole = report.total(found)
    assert (whole.seconds, whole.memory, whole.disk, whole.kept) == (13.0, 7, 100, 30)
    assert whole.untold == 1
    limits = {"hours": 13 / 3600, "memory_gb": None, "disk_gb": None}
    assert report.beyond(whole, limits) is None
    assert "limits.hours" in (report.beyond(whole, {**limits, "hours": 12.9 / 3600}) or "")
    assert np.char.count(report.table([*found, whole], 4), "0:00:13") == 1


# -- what is too large for this machine ------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_work_is_two_operations_for_each_weight_and_token(tied: bool, tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=50, hidden_size=8, intermediate_size=20, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=tied,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    checkpoint = make(composed("model=local", f"model.path={tmp_path}"), "model")
    weights = 3 * (8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 20) + 50 * 8  # no table, no norms
    shapes = Shapes("cpu")
    assert shapes.operations(checkpoint, "forward", 7) == 2 * weights * 7
    assert shapes.operations(checkpoint, "gradients", 7) == 2 * shapes.operations(
        checkpoint, "forward", 7
    )


def test_the_work_of_a_plan_is_told_in_large_units() -> None:
    jobs = [[dataclasses.asdict(Planned("gradients", "a", False, None, 5, 100, 3.1e17))]]
    [line] = report.lines(jobs)
    assert "310.0 PFLOP" in report.table([line], 1)
    assert [report._work(count) for count in (2e9, 3e13, 4.5e18)] == [
        "2.0 GFLOP", "30.0 TFLOP", "4.5 EFLOP",
    ]  # fmt: skip


def test_of_a_divided_model_each_process_holds_its_part_and_a_layer() -> None:
    model = make(composed("model=llama2_70b"), "model")
    shapes = Shapes("cpu", parts=4)
    layer = 2 * (2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672 + 2 * 8192)
    assert shapes.held(model) == 80 * layer // 4 + layer + 2 * (2 * 32000 * 8192 + 8192)


@pytest.mark.parametrize(
    ("bits", "gigabytes"), [(None, 137.953296), ("8bit", 69.529125), ("4bit", 36.362994)]
)
def test_seventy_billion_parameters_are_planned_by_their_shape(bits: Any, gigabytes: float) -> None:
    config = composed(
        "model=llama2_70b", "lora.layers=20", *([f"model.quantization={bits}"] * bool(bits))
    )
    checkpoint = make(config, "model")
    work = Work("training", SimpleNamespace(checkpoint=checkpoint), [128])  # type: ignore[arg-type]
    shapes = Shapes("cpu")
    speed = shapes.speed(work, make(config, "gradients"), make(config, "lora"))
    assert speed.base / 1e9 == pytest.approx(gigabytes)
    assert shapes.spared(checkpoint) == 0
    # q and o, k and v, gate and up and down: in + out of each, r = 16, of twenty layers
    wide = 2 * (8192 + 8192) + 2 * (8192 + 1024) + 3 * (8192 + 28672)
    assert speed.size == 20 * 16 * wide
    assert shapes.too_large(checkpoint) == (speed.base > memory("cpu"))


@pytest.mark.parametrize(
    ("what", "most"), [("memory", lambda accelerator: 10_000), ("PATIENCE", 1e-9)]
)
def test_no_model_is_loaded_that_does_not_fit_or_is_too_slow(
    start: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, most: Any
) -> None:
    measured = plan(start, tmp_path)
    monkeypatch.setattr(f"spice.pipeline.plan.shape.{what}", most)
    monkeypatch.setattr(Checkpoint, "load", lambda self: pytest.fail("loaded"))
    told = plan(start, tmp_path, "gradients.seed=1")  # whose probes are not kept yet
    for stage in ("gradients", "finetune"):
        assert told[stage]["seconds"] is None
        assert told[stage]["operations"] == measured[stage]["operations"] > 0
        assert told[stage]["disk"] == measured[stage]["disk"]
        assert 50_000 < told[stage]["memory"] < measured[stage]["memory"]
