"""What holds for every selector, new ones included: on rows of the sandbox, with its proxy."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from compose import selected
from halves import slow_but

from spice.cli.explain import conf_dir
from spice.records import SelectionRecord
from spice.sandbox.data import SandboxPool

N, K = 90, 9
UNMIXED = {"full", "lead", "none", "random_matched", "rds", "tsds"}
SELECTORS = sorted(path.stem for path in (conf_dir() / "selector").glob("*.yaml"))
WAYS = [*([name] for name in SELECTORS), ["spice", "schedule=pools", "schedule.pool_size=30",
                                          "schedule.refresh_every=1"]]  # fmt: skip

QUICK = [["random"], ["spice"], ["spice_consensus"], ["fishersft"]]

# A run that may stop early need not fill its rooms.
MIXED = sorted(set(SELECTORS) - UNMIXED - {"spice_plus"})


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same rows in two orders."""
    rows = SandboxPool(N, 0, None, None, None).load().rows
    folder = tmp_path_factory.mktemp("pools")
    orders = {"one": range(N), "other": np.random.default_rng(1).permutation(N)}
    for name, order in orders.items():
        lines = [json.dumps(rows[i].as_dict()) for i in order]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return [folder / f"{name}.jsonl" for name in orders]


@pytest.fixture(scope="module")
def copied(pools: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that a matched draw can copy."""
    folder = tmp_path_factory.mktemp("copied")
    select(["random"], pools[0], folder, 16)
    return folder


def select(way: list[str], pool: Path, folder: Path, batch_size: int) -> SelectionRecord:
    """The selection of a run that has no cache to fall back upon."""
    run = selected(
        folder, folder / "cache", f"selector={way[0]}", *way[1:], "data=jsonl",
        f"data.paths=[{pool}]", f"budget={K}", "finetune=none", "trainer=cpu",
        "trainer.progress=false", "logger=csv", f"gradients.batch_size={batch_size}",
    )  # fmt: skip
    return run.selection


def mix(name: str, option: str, pool: Path, folder: Path) -> dict[str, int]:
    """How many picks come from each source; signals are read once for both mixes."""
    way = [name, "selector.stratify=null", option]
    chosen = select(way, pool, folder, 16)
    of = {
        row["id"]: row["source"]
        for row in map(json.loads, (folder / "selected.jsonl").open(encoding="utf-8"))
    }
    return dict(Counter(of[row_id] for row_id in chosen["ids"]))


@pytest.mark.parametrize("name", slow_but(MIXED, {"random", "spice"}))
def test_the_mix_of_sources_is_kept_or_set(name: str, pools: list[Path], tmp_path: Path) -> None:
    """Of 28 rows of math, 23 of code, 20 general ones and 19 of chat."""
    kept = mix(name, "selector.stratify=source", pools[0], tmp_path)
    assert kept == {"math": 3, "code": 2, "general": 2, "chat": 2}
    chosen = mix(name, "selector.quotas={code: 0.5, chat: 0}", pools[0], tmp_path)
    assert chosen == {"math": 3, "code": 4, "general": 2}


@pytest.mark.parametrize("way", slow_but(WAYS, QUICK), ids=" ".join)
def test_k_rows_are_chosen_alike_in_any_order_of_the_pool_and_any_batches(
    way: list[str], pools: list[Path], copied: Path, tmp_path: Path
) -> None:
    if way == ["random_matched"]:
        way = [*way, f"selector.like={copied}"]
    one, again, other = (
        select(way, pool, tmp_path / name, batch_size)
        for name, pool, batch_size in (("a", pools[0], 16), ("b", pools[0], 16), ("c", pools[1], 5))
    )
    asked = {"none": 0, "full": N}.get(way[0], K)
    assert one["k"] == len(set(one["ids"])) <= asked
    assert one["k"] == asked or way[0] == "spice_plus"  # which may stop before
    assert again["ids"] == one["ids"]
    assert set(other["ids"]) == set(one["ids"])
    if not way[0].startswith("random") and way[0] not in {"full", "none"}:
        assert len(one["scores"]) == one["k"]
