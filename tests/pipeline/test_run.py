"""The stages together: what is reused, what is written, what a second run repeats."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spice.errors import InputError
from spice.pipeline.job import resolve_budget

Run = Callable[..., dict[str, Any]]


def test_a_run_folder_holds_what_was_promised(start: Run, tmp_path: Path) -> None:
    results = start()
    folder = tmp_path / "run0"
    selection = json.loads((folder / "selection.json").read_text())
    chosen = [json.loads(line) for line in (folder / "selected.jsonl").read_text().splitlines()]
    assert (results["n"], results["k"], selection["n"], selection["k"]) == (40, 8, 40, 8)
    assert [row["id"] for row in chosen] == selection["ids"]
    assert selection["config"]["selector"]["penalty"] == 0.1
    assert selection["information"] == pytest.approx(sum(selection["gains"]))
    for name in ("config.yaml", "audit.json", "adapter/adapter_model.safetensors"):
        assert (folder / name).is_file(), name
    assert {path.name for path in (folder / "figures").iterdir()} >= {"gains.png", "conflicts.png"}
    keys = (
        "selector budget k n seed model proxy scores average seconds reused versions git hardware"
    )
    assert set(keys.split()) <= set(results)


def test_the_same_configuration_again_reuses_every_stage(start: Run, tmp_path: Path) -> None:
    first, second = start(), start()
    assert first["reused"] == []
    assert second["reused"] == ["gradients", "selection", "finetune"]
    one, two = ((tmp_path / f"run{i}" / "selection.json").read_bytes() for i in (0, 1))
    assert one == two


@pytest.mark.parametrize(
    ("change", "reused"),
    [
        ("selector.penalty=0.7", ["gradients"]),
        ("selector.scale=unit", ["gradients"]),
        ("gradients.reduction=sum", []),
        ("finetune.recipe.learning_rate=1e-3", ["gradients", "selection"]),
        ("template.user='Q: {content} '", []),
        ("seed=1", ["gradients"]),
        ("gradients.batch_size=3", ["gradients", "selection", "finetune"]),
        ("data.limit=30", []),
    ],
)
def test_a_change_makes_anew_just_what_depends_on_it(
    start: Run, change: str, reused: list[str]
) -> None:
    start()
    found = start(change)["reused"]
    # An unchanged choice of rows is trained on once, whichever setting chose it.
    assert [stage for stage in found if stage != "finetune" or stage in reused] == reused


def test_a_changed_row_a_changed_weight_and_changed_code_reuse_nothing(
    start: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    pool = tmp_path / "pool.jsonl"
    pool.write_text(pool.read_text().replace("Say red", "Say rot", 1))
    assert start()["reused"] == []
    monkeypatch.setattr("spice.__version__", "999")
    assert start()["reused"] == []


def test_no_run_is_written_over(start: Run, tmp_path: Path) -> None:
    start()
    before = (tmp_path / "run0" / "results.json").read_bytes()
    with pytest.raises(InputError, match="finished run"):
        start(folder=tmp_path / "run0")
    assert (tmp_path / "run0" / "results.json").read_bytes() == before


def test_random_and_full_read_no_proxy(start: Run) -> None:
    results = start("selector=random", "proxy.path=/nowhere")
    assert (results["k"], results["proxy"]) == (8, None)
    assert start("selector=full", "proxy.path=/nowhere")["k"] == 40


def test_the_order_of_picking_changes_no_tuning(start: Run) -> None:
    start("selector=full")
    assert start("selector=random", "budget=1.0")["reused"] == ["finetune"]


def test_none_chooses_nothing_and_leaves_the_model_untuned(start: Run, tmp_path: Path) -> None:
    results = start("selector=none", "proxy.path=/nowhere")
    assert (results["k"], results["budget"], results["n"]) == (0, 0.0, 40)
    assert not (tmp_path / "run0" / "adapter").exists()
    assert (tmp_path / "run0" / "selected.jsonl").read_text() == ""


def test_a_finite_pool_with_unsupervised_rows_is_chosen_from_the_rest(
    start: Run, tmp_path: Path
) -> None:
    results = start("template.max_tokens=54", "budget=5")
    audit = json.loads((tmp_path / "run0" / "audit.json").read_text())["proxy"]
    chosen = json.loads((tmp_path / "run0" / "selection.json").read_text())["ids"]
    assert 0 < audit["unsupervised_rows"] == len(audit["unsupervised_ids"]) < 40
    assert not set(chosen) & set(audit["unsupervised_ids"])
    assert results["k"] == 5


def test_the_untuned_model_is_scored_without_an_adapter(start: Run, tmp_path: Path) -> None:
    start("finetune=none")
    assert not (tmp_path / "run0" / "adapter").exists()


@pytest.mark.parametrize(
    ("budget", "k"), [(0.1, 4), (1.0, 40), (0.001, 1), (1, 1), (40, 40), (0.2625, 10)]
)
def test_budget_is_a_share_or_a_count(budget: float, k: int) -> None:
    assert resolve_budget(budget, 40) == k


@pytest.mark.parametrize("budget", [0, 0.0, -1, -0.5, 1.5, 41, "ten", None, True, float("nan")])
def test_an_impossible_budget_is_refused(budget: Any) -> None:
    with pytest.raises(InputError, match="budget"):
        resolve_budget(budget, 40)
