"""Runs that weigh rows: what they keep, what they tell, and what a second setting costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compose import begun, selected

from spice.errors import InputError
from spice.gradients.store import read as read_gradients
from spice.pipeline.run import Run
from spice.records import Row, Selection
from spice.reporting.trust import examine, trust_line
from spice.signals.reliability import FIELDS

SMALL = ["data.size=90", "budget=9", "finetune=none", "trainer=cpu", "trainer.progress=false",
         "logger=csv"]  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_a_run_keeps_and_tells_how_far_rows_were_trusted(tmp_path: Path, cache: Path) -> None:
    run = selected(tmp_path / "run", cache, "selector=spice_consensus", *SMALL)
    selection = run.selection
    told = json.loads((run.folder / "reliability.json").read_text(encoding="utf-8"))
    assert told["rows"] == 90
    assert 0 <= told["untrustworthy"] <= 1
    assert sum(source["rows"] for source in told["by_source"].values()) == 90
    assert len(told["least_trusted"]) == 20
    assert {"prompt", "response", "weight"} <= set(told["least_trusted"][0])
    assert run.diagnostics["reliability"]["untrustworthy"] == told["untrustworthy"]
    assert len(selection["weights"]) == selection["k"] == 9
    others = set(selection["indices"]) - set(selection["without_weights"])
    assert told["changed_by_weights"] == len(others)
    card = (run.folder / "card.md").read_text(encoding="utf-8")
    assert trust_line(told) in card
    assert told["least_trusted"][0]["response"] in card
    assert "the same with all rows trusted alike" in card


def test_a_second_setting_reads_no_weights_again(tmp_path: Path, cache: Path) -> None:
    first = selected(tmp_path / "first", cache, "selector=spice_consensus", *SMALL)
    again = selected(tmp_path / "again", cache, *SMALL, "selector=spice_consensus",
                     "selector.alpha=3", "budget=5", "selector.penalty=0.1")  # fmt: skip
    assert {"gradients", "reliability"} <= set(again.ledger.reused)
    other = begun(tmp_path / "other", cache, *SMALL, "selector=spice_consensus",
                  "selector.reliability.share=0.3")  # fmt: skip
    keys = [digest_of(one, "reliability") for one in (first, again, other)]
    assert keys[0] == keys[1] != keys[2]


def digest_of(run: Run, name: str) -> str:
    assert run.keyed is not None
    return json.dumps(run.keyed.keys[name], sort_keys=True, default=str)


def test_targeted_weights_are_cosines_with_the_nearest_example(tmp_path: Path, cache: Path) -> None:
    run = begun(tmp_path / "run", cache, *SMALL, "selector=spice_targeted")
    assert run.keyed is not None
    assert run.as_proxy is not None
    read = run.keyed.read()
    [targets] = (cache / "reliability").glob("*/targets/metadata.json")
    examples = run.as_proxy.renderer.encode(run.targets)
    aims = read_gradients(
        targets.parent,
        run.parts.extraction,
        examples,
        [row.id for row in run.targets],
        {**run.keyed.keys["reliability"], "of": "targets"},
    )
    G, V = (np.asarray(rows[:], dtype=float) for rows in (read["gradients"], aims))
    G, V = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (G, V))
    expected = np.maximum((G @ V.T).max(axis=1), 0)
    assert read["reliability"]["weight"] == pytest.approx(expected, abs=1e-6)


def test_weights_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    found = []
    for size in (16, 3):
        run = begun(tmp_path / str(size), tmp_path / f"cache{size}", *SMALL,
                    "selector=spice_consensus", f"gradients.batch_size={size}")  # fmt: skip
        assert run.keyed is not None
        found.append(run.keyed.read()["reliability"]["weight"])
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_windows_have_no_pool_to_judge_by(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"schedule=global: .* whole pool"):
        begun(tmp_path / "run", tmp_path, *SMALL, "selector=spice_targeted", "schedule=pools")


def test_what_is_told_of_rows_that_nobody_votes_on() -> None:
    table = np.zeros(3, dtype=FIELDS)
    table["weight"], table["votes"] = [0.5, 0.0, 2.0], 1.0
    table["support"], table["opposition"] = [0.4, np.nan, 0.9], [0.1, np.nan, 0.0]
    rows = [Row(str(i), f"ask {i}", "", f"say {i}", "pool") for i in range(3)]
    told: dict[str, Any] = examine(
        table, rows, range(3), Selection(n=3, indices=[2], weights=[2.0], without_weights=[0])
    )
    assert [row["id"] for row in told["least_trusted"]] == ["1", "0", "2"]
    assert told["least_trusted"][0]["support"] is None
    assert told["not_trusted"] == told["changed_by_weights"] == 1
    assert "1 of 3 weigh nothing" in trust_line(told)
