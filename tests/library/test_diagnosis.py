"""``spice.diagnose``: what ``spice diagnose`` tells of a run, of gradients from anywhere."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

import spice
from spice.errors import InputError
from spice.pipeline.diagnose import _begun, examine
from spice.records import Selection
from spice.storage.files import read_json


@pytest.mark.parametrize("selector", ["spice", "fisher", "spice_consensus"])
def test_it_finds_what_the_command_line_does(
    start: Callable[..., dict[str, Any]], tmp_path: Path, selector: str
) -> None:
    start(f"selector={selector}", "finetune=none", folder=tmp_path / "one")
    facts = examine(tmp_path / "one", [])
    run = _begun(tmp_path / "one")
    assert run.keyed is not None
    signals, config = run.keyed.read(), run.config.selector
    options = {name: config[name] for name in ("penalty", "alpha", "scale", "clip_quantile")}
    weights = signals["reliability"]["weight"] if "reliability" in signals else None
    written = read_json(tmp_path / "one/selection.json")
    names = Selection.__dataclass_fields__
    picked = Selection(**{k: v for k, v in written.items() if k in names and k != "excluded"})
    gradients = np.asarray(signals["gradients"][:])
    found = spice.diagnose(picked, gradients, weights=weights, **options)
    expected = {name: facts[name] for name in asdict(found.theory)}
    assert asdict(found.theory) == expected
    assert found.theory.guarantee == facts["guarantee"]
    assert found.information == facts["information"]
    # The uniform rows beside the picks are drawn by ids there, and by positions here.
    for measure in ("novel_sum", "ldd"):
        mine = getattr(found.diversity, measure)
        assert mine.picks == facts["diversity"][measure]["picks"]


@settings(max_examples=40)
@hypothesis.given(
    st.integers(0, 10**6), st.sampled_from(["raw", "unit", "clip"]), st.sampled_from([0.0, 0.1, 2])
)
def test_theory_holds_of_gradients_from_anywhere(seed: int, scale: str, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 60)), int(rng.integers(1, 20))
    G = rng.normal(size=(n, d)) * np.exp(rng.normal(size=(n, 1)))
    k = int(rng.integers(1, n + 1))
    picked = spice.select(G, k, scale=scale, penalty=penalty)
    found = spice.diagnose(picked, G, scale=scale, penalty=penalty)
    assert (found.n, found.k) == (n, picked.k)
    assert found.theory.decomposition_error < 1e-8
    assert found.theory.violations == 0
    assert not found.theory.violations_of_the_paper
    assert 1 - 1 / math.e <= found.theory.guarantee <= 1
    assert found.guaranteed is not None
    assert 0 < found.guaranteed <= 1
    if penalty == 0 and k < n:  # what is guaranteed of these very rows
        best = picked.certificate["optimum_at_most"] if picked.certificate else 0
        assert found.information >= found.guaranteed * best * (1 - 1e-9)
    if k == n:
        assert found.diversity.novel_sum.picks == pytest.approx(found.diversity.novel_sum.uniform)


def test_rows_of_every_type_are_read() -> None:
    import torch

    G = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    given = torch.tensor(G, requires_grad=True)
    assert spice.diagnose(spice.select(given, 5), given) == spice.diagnose(spice.select(G, 5), G)


def test_what_was_weighed_is_diagnosed_with_its_weights() -> None:
    rng = np.random.default_rng(0)
    G, weights = rng.normal(size=(30, 8)), rng.uniform(size=30)
    picked = spice.select(G, 5, weights=weights, alpha=10.0)
    assert spice.diagnose(picked, G, weights=weights, alpha=10.0).theory.violations == 0
    with pytest.raises(InputError, match="not as they were picked from"):
        spice.diagnose(picked, G, alpha=10.0)


def test_an_empty_selection_is_one() -> None:
    found = spice.diagnose(spice.select([[1.0, 0], [0, 1]], 0), [[1.0, 0], [0, 1]])
    assert (found.k, found.information, found.guaranteed) == (0, 0.0, None)
    assert found.theory.mean_taken == 0


@pytest.mark.parametrize(
    ("gradients", "options", "message"),
    [
        (np.eye(3), {}, "3 rows, the selection is of 4"),
        (2 * np.eye(4), {}, "not as they were picked from"),
        (np.eye(4), {"scale": "huge"}, "scale=huge"),
        (np.ones(4), {}, "must be n × d"),
    ],
)
def test_other_gradients_than_were_picked_from_are_refused(
    gradients: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        spice.diagnose(spice.select(np.eye(4), 2), gradients, **options)


def test_a_selection_of_no_greedy_is_refused() -> None:
    with pytest.raises(InputError, match="no selection by gradients"):
        spice.diagnose(Selection(4, [1, 2]), np.eye(4))
    with pytest.raises(TypeError, match="'penality'"):
        spice.diagnose(spice.select(np.eye(4), 2), np.eye(4), penality=1)  # type: ignore[call-arg]


def test_diagnosing_needs_no_torch() -> None:
    code = (
        "import sys, numpy, spice\n"
        "G = numpy.eye(5)\n"
        "assert spice.diagnose(spice.select(G, 2), G).k == 2\n"
        "assert not {'torch', 'hydra', 'wandb'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
