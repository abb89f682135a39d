"""The projection keeps inner products, and makes nothing of how gradients were cut up."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spice.data.batch_limit import BatchLimit
from spice.data.batches import pad
from spice.data.rendering import Example
from spice.gradients.collecting import factors
from spice.gradients.per_sample import dimension, per_sample_gradients
from spice.gradients.projection import Sketch
from spice.gradients.store import projection_error
from spice.models.checkpoint import Checkpoint
from spice.models.lora import Lora

LORA = Lora(r=4, alpha=8, dropout=0.0, targets="all-linear")


def dense(sketch: Sketch, name: str, m: int) -> torch.Tensor:
    """The matrix m × p that is never made: the projections of the unit vectors."""
    found = torch.zeros(m, sketch.size)
    sketch.add(found, name, torch.eye(m))
    return found


def test_each_coordinate_goes_to_one_place_with_a_sign() -> None:
    S = dense(Sketch(16, 0), "layer", 500)
    assert torch.equal(S.abs().sum(dim=1), torch.ones(500))
    assert set(S.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert 150 < int((S.sum(dim=1) > 0).sum()) < 350
    assert int((S != 0).any(dim=0).sum()) == 16


def test_blocks_are_drawn_by_seed_and_name_alone() -> None:
    one, other = Sketch(16, 0), Sketch(16, 0)
    dense(other, "something else", 30)
    assert torch.equal(dense(one, "layer", 50), dense(other, "layer", 50))
    assert not torch.equal(dense(one, "layer", 50), dense(one, "lower", 50))
    assert not torch.equal(dense(one, "layer", 50), dense(Sketch(16, 1), "layer", 50))


def test_inner_products_are_kept_on_average_and_within_the_stated_spread() -> None:
    rng = np.random.default_rng(0)
    X = torch.tensor(rng.normal(size=(2, 300)), dtype=torch.float32)
    exact = float(X[0] @ X[1])
    p, found = 64, []
    for seed in range(400):
        into = torch.zeros(2, p)
        Sketch(p, seed).add(into, "layer", X)
        found.append(float(into[0] @ into[1]))
    limit = float(2 * X[0].square().sum() * X[1].square().sum() / p) ** 0.5
    assert np.std(found) < limit
    assert np.mean(found) == pytest.approx(exact, abs=4 * limit / 400**0.5)


def test_gradients_are_projected_as_they_are_made(make_checkpoint: Callable[..., Path]) -> None:
    model = LORA.attach(Checkpoint(str(make_checkpoint("llama")), "float32").load(), 7).eval()
    rng = np.random.default_rng(0)
    examples = [Example(rng.integers(3, 60, n).tolist(), n // 2) for n in (9, 17, 12)]
    batch, sketch = pad(examples, range(3), 0), Sketch(32, 5)
    whole = per_sample_gradients(model, batch, "mean")
    found = per_sample_gradients(model, batch, "mean", sketch)
    assert found.shape == (3, dimension(model, sketch)) == (3, 32)
    names = [name for name, _ in factors(model)]
    blocks = whole.split([m.weight.numel() for _, m in factors(model)], dim=1)
    expected = sum(b @ dense(sketch, n, b.shape[1]) for n, b in zip(names, blocks, strict=True))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 8), st.integers(1, 200))
def test_batches_keep_to_their_budget(lengths: list[int], rows: int, tokens: int) -> None:
    lengths.sort(reverse=True)
    batches = [lengths[part] for part in BatchLimit(rows, tokens).cut(lengths)]
    assert [length for batch in batches for length in batch] == lengths
    for batch in batches:
        assert 1 <= len(batch) <= rows
        assert len(batch) == 1 or len(batch) * max(batch) <= tokens
    for batch, after in itertools.pairwise(batches):  # none is cut without need
        assert len(batch) == rows or (len(batch) + 1) * max([*batch, after[0]]) > tokens


def test_the_error_that_is_told_is_the_error(make_checkpoint: Callable[..., Path]) -> None:
    model = LORA.attach(Checkpoint(str(make_checkpoint("llama")), "float32").load(), 7).eval()
    rng = np.random.default_rng(0)
    examples = [Example(rng.integers(3, 60, n).tolist(), n // 2) for n in (9, 17, 12, 30)]
    sketch = Sketch(256, 5)
    told = projection_error(model, examples, "mean", sketch, 0)
    batch = pad(examples, range(4), 0)
    exact = per_sample_gradients(model, batch, "mean").double().numpy()
    found = per_sample_gradients(model, batch, "mean", sketch).double().numpy()
    errors = []
    for i in range(4):
        for j in range(i, 4):
            product = np.linalg.norm(exact[i]) * np.linalg.norm(exact[j])
            errors.append((found[i] @ found[j] - exact[i] @ exact[j]) / product)
    assert told["rows"] == 4
    assert told["rms"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-3)
    assert told["largest"] == pytest.approx(np.abs(errors).max(), rel=1e-3)
    assert told["rms"] < 2 * (2 / 256) ** 0.5
