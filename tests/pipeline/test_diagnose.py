"""``spice diagnose``: the theory holds in numbers, of what the selector saw."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from halves import slow_but

from spice.errors import InputError
from spice.library.diagnosis import diversity
from spice.pipeline.diagnose import FILE, _begun, _seen, examine, lines
from spice.storage.files import read_json

Run = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    "selector", slow_but(["spice", "fisher", "spice_consensus"], {"spice_consensus"})
)
def test_a_finished_selection(start: Run, tmp_path: Path, selector: str) -> None:
    start(f"selector={selector}", "finetune=none", folder=tmp_path / "one")
    start("selector=random", "finetune=none", folder=tmp_path / "other")
    facts = examine(tmp_path / "one", [tmp_path / "other"])
    assert facts == read_json(tmp_path / "one" / FILE)
    assert facts["decomposition_error"] < 1e-9
    assert facts["violations"] == 0
    assert not facts["violations_of_the_paper"]
    assert 0 < facts["curvature"] <= 1
    assert 1 - 1 / np.e <= facts["guarantee"] < 1
    picked = read_json(tmp_path / "one" / "selection.json")
    G = np.asarray(_seen(_begun(tmp_path / "one"), tmp_path)[picked["indices"]], dtype=np.float64)
    F = np.linalg.slogdet(np.eye(len(G)) + facts["alpha"] * G @ G.T)[1]
    assert picked["information"] == pytest.approx(F, rel=1e-5)
    [overlap] = facts["overlaps"]
    both = set(picked["ids"]) & set(read_json(tmp_path / "other" / "selection.json")["ids"])
    assert overlap["of_ours"] == pytest.approx(len(both) / len(picked["ids"]))
    told = dict(lines(facts))
    assert told["bounds"].startswith("(1 + α‖F‖)u: 0 candidates violate it")


def test_rows_without_direction_are_no_diversity(start: Run, tmp_path: Path) -> None:
    """All rows that have one are chosen, so the uniform draw beside them is the same set."""
    start("selector=fisher", "finetune=none", "budget=1.0", folder=tmp_path / "one")
    run = _begun(tmp_path / "one")
    G = np.asarray(_seen(run, tmp_path)[:])
    G[:9] = 0.0
    picks = np.arange(9, len(G))
    sides = diversity(G, picks, run.config.seed, [row.id for row in run.pool.rows]).novel_sum
    assert sides.uniform == pytest.approx(sides.picks)


def test_what_cannot_be_diagnosed_is_said(start: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no finished run, it has no config\.yaml"):
        examine(tmp_path, [])
    start("selector=random", "finetune=none", folder=tmp_path / "random")
    with pytest.raises(InputError, match="no greedy over gradients"):
        examine(tmp_path / "random", [])
    start("finetune=none", folder=tmp_path / "one")
    shutil.rmtree(tmp_path / "cache" / "gradients")
    with pytest.raises(InputError, match=r"its gradients are not in .*cache"):
        examine(tmp_path / "one", [])
    assert not (tmp_path / "cache" / "gradients").exists()  # nothing was read anew
