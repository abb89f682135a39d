"""The health report: planted faults are found, and what they cost the selection."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from compose import job

from spice.pipeline.run import run
from spice.records import Row
from spice.reporting.health import examine, health_line, norm_limit


def rows(n: int) -> list[Row]:
    return [Row(f"{i:03}", f"ask {i}", "", f"say {i}", "pool") for i in range(n)]


def by_norm(G: np.ndarray, k: int) -> Callable[[Sequence[int]], list[int]]:
    def choose(eligible: Sequence[int]) -> list[int]:
        return sorted(eligible, key=lambda row: -np.linalg.norm(G[row]))[:k]

    return choose


def planted() -> np.ndarray:
    """Fifty rows of norms around 1; 3 is zero, 5 is not finite, 7 and 9 are far too large."""
    rng = np.random.default_rng(0)
    G = rng.normal(size=(50, 8))
    G *= (np.exp(0.2 * rng.normal(size=50)) / np.linalg.norm(G, axis=1))[:, None]
    G[3], G[5, 2] = 0, np.nan
    G[7] *= 5 / np.linalg.norm(G[7])
    G[9] *= 9 / np.linalg.norm(G[9])
    return G.astype(np.float32)


def test_planted_faults_are_found() -> None:
    G = planted()
    usable = [i for i in range(50) if i not in {3, 5}]
    facts = examine(G, rows(50), range(50), by_norm(G, 4)(usable), by_norm(G, 4))
    assert (facts["zero"], facts["not_finite"]) == (["003"], ["005"])
    assert [row["id"] for row in facts["largest"]] == ["009", "007"]
    assert [row["picked"] for row in facts["largest"]] == [True, True]
    assert facts["largest"][0]["prompt"] == "ask 9"
    assert facts["largest"][0]["norm"] == pytest.approx(9, rel=1e-6)
    assert facts["outliers_picked"] == 2
    assert facts["without_outliers"] == {"k": 4, "new_picks": 2, "share": 0.5}
    assert "2 of them picked; without them 50% of the picks would be others" in health_line(facts)


def test_a_healthy_pool_has_nothing_to_say() -> None:
    G = np.delete(planted(), [3, 5, 7, 9], axis=0)
    facts = examine(G, rows(46), range(46), [0, 1], by_norm(G, 2))
    assert health_line(facts) == "0 zero, 0 not finite, 0 outliers of 46 rows"
    assert facts["without_outliers"] is None


def test_rows_that_are_not_eligible_are_not_looked_at() -> None:
    facts = examine(planted(), rows(50), [0, 1, 2, 7], [0], lambda some: list(some)[:1])
    assert (facts["rows"], facts["zero"], facts["not_finite"]) == (4, [], [])


def test_the_limit_is_a_box_plots_upper_whisker() -> None:
    assert norm_limit(np.arange(101.0)) == pytest.approx(75 + 1.5 * 50)
    assert norm_limit(np.empty(0)) == np.inf


@pytest.mark.parametrize(("projection", "dtype"), [(None, "float32"), (512, "int8")])
def test_a_run_leaves_the_report(projection: int | None, dtype: str, tmp_path: Path) -> None:
    config = job(
        "selector=spice", "data.size=200", "budget=20", "finetune=none", "benchmarks=none",
        "logger=csv", "trainer.progress=false", f"cache_dir={tmp_path / 'cache'}",
        f"gradients.projection={projection or 'null'}", f"gradients.dtype={dtype}",
    )  # fmt: skip
    run(config, tmp_path / "run")
    facts = json.loads((tmp_path / "run/health.json").read_text())
    chosen = set(json.loads((tmp_path / "run/selection.json").read_text())["ids"])
    assert facts["rows"] == 200
    if projection is None:
        assert facts["projection"] is facts["rounding"] is None
    else:
        assert 0 < facts["projection"]["rms"] < 2 * (2 / projection) ** 0.5
        assert 0 < facts["rounding"]["rms"] < facts["projection"]["rms"]
    assert facts["outliers"] >= len(facts["largest"]) > 0
    for row in facts["largest"]:
        assert row["picked"] == (row["id"] in chosen)
