"""K of a window against the gradients themselves, and coordinates that have K as products."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spice.data.batches import pad
from spice.data.rendering import Example
from spice.gradients import gram as module
from spice.gradients.gram import gram, in_their_span
from spice.gradients.per_sample import dimension, per_sample_gradients
from spice.models.checkpoint import Checkpoint
from spice.models.lora import Lora
from spice.models.recompute import recompute_long_batches

LORA = Lora(4, 8, 0.0, "all-linear")


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    rng = np.random.default_rng(0)
    lengths = [7, 40, 3, 22, 12, 30, 5, 18, 9, 26, 15]
    return [Example(rng.integers(4, 90, n).tolist(), int(rng.integers(1, n))) for n in lengths]


@pytest.fixture
def attach(make_checkpoint: Callable[..., Path]) -> Callable[..., Any]:
    def attach(family: str, **overrides: Any) -> Any:
        path = make_checkpoint(family, **overrides)
        model = LORA.attach(Checkpoint(str(path), "float32").load(), 3).eval()
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # moved off zero, so that both factors count
                torch.nn.init.normal_(parameter, std=0.1)
        return model

    return attach


def products(model: Any, examples: list[Example], reduction: str) -> np.ndarray:
    """Each row on its own, no cuts."""
    rows = [per_sample_gradients(model, pad([e], [0], 0), reduction) for e in examples]
    G = torch.cat(rows).double()
    return (G @ G.T).numpy()


def batches(examples: list[Example], size: int) -> list[Any]:
    starts = range(0, len(examples), size)
    return [pad(examples, range(len(examples))[i : i + size], 0) for i in starts]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen2_moe"])
@pytest.mark.parametrize("size", [1, 4, 11])
def test_products_are_those_of_the_gradients(
    attach: Any, examples: list[Example], family: str, reduction: str, size: int
) -> None:
    model = attach(family)
    found = gram(model, batches(examples, size), reduction)
    expected = products(model, examples, reduction)
    norms = np.sqrt(expected.diagonal())
    assert found.dtype == np.float64
    assert np.abs(found - expected).max() < 1e-6 * norms.max() ** 2
    assert np.abs((found - expected) / np.outer(norms, norms)).max() < 1e-5


def test_a_layer_that_is_used_twice_counts_as_one(attach: Any, examples: list[Example]) -> None:
    model = attach("llama")
    layers = model.base_model.model.model.layers
    layers[1] = layers[0]
    expected = products(model, examples, "mean")
    assert gram(model, batches(examples, 4), "mean") == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_no_more_than_a_layer_is_held(
    attach: Any, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, held = attach("llama", num_hidden_layers=6), []
    add = module._add_products

    def counted(K: torch.Tensor, blocks: dict[Any, torch.Tensor]) -> None:
        held.append(sum(block.shape[1] for block in blocks.values()))
        add(K, blocks)

    monkeypatch.setattr(module, "_add_products", counted)
    gram(model, batches(examples, 4), "mean")
    assert sum(held) == dimension(model)
    assert max(held) == dimension(model) / 6


@pytest.mark.parametrize("size", [4, 11])
def test_recomputed_layers_give_the_same_bits(
    attach: Any, examples: list[Example], size: int
) -> None:
    model = attach("llama")
    parts = batches(examples, size)
    whole = [per_sample_gradients(model, part, "mean") for part in parts]
    expected = gram(model, parts, "mean")
    recompute_long_batches(model, 60)  # some batches are longer, some are not
    again = [per_sample_gradients(model, part, "mean") for part in parts]
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True))
    assert np.array_equal(gram(model, parts, "mean"), expected)


def test_recomputation_keeps_nothing_but_inputs_of_long_batches(
    attach: Any, examples: list[Example]
) -> None:
    model, batch = attach("llama", num_hidden_layers=6), batches(examples, 11)[0]

    def kept() -> int:
        sizes: list[int] = []

        def note(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            per_sample_gradients(model, batch, "mean")
        return sum(sizes)

    before = kept()
    recompute_long_batches(model, batch["input_ids"].numel())
    assert kept() == before
    recompute_long_batches(model, batch["input_ids"].numel() - 1)
    assert kept() < before / 3


def test_recomputed_training_draws_the_same_dropout(
    make_checkpoint: Callable[..., Path], examples: list[Example]
) -> None:
    path = str(make_checkpoint("llama"))

    def step(tokens: int) -> list[torch.Tensor]:
        model = Lora(4, 8, 0.5, "all-linear").attach(Checkpoint(path, "float32").load(), 3).train()
        recompute_long_batches(model, tokens)
        torch.manual_seed(0)
        batch = batches(examples, 11)[0]
        model(input_ids=batch["input_ids"], labels=batch["labels"]).loss.backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    for one, other in zip(step(10**9), step(1), strict=True):
        assert torch.equal(one, other)


# -- coordinates of the rows' own span -----------------------------------------------------------


@given(
    st.integers(1, 12), st.integers(1, 30), st.integers(0, 10**6), st.floats(0, 8, allow_nan=False)
)
def test_coordinates_have_the_products(n: int, d: int, seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    G = rng.standard_normal((n, d)) * 10 ** rng.uniform(-spread, spread, n)[:, None]
    K = G @ G.T
    found = in_their_span(K)
    norms = np.sqrt(K.diagonal())
    assert found.shape == (n, n)
    assert np.abs((found @ found.T - K) / np.outer(norms, norms)).max() < 1e-12


def test_zero_rows_stay_zero_and_broken_ones_broken() -> None:
    G = np.random.default_rng(0).standard_normal((5, 3))
    G[1], G[3] = 0.0, np.inf
    with np.errstate(invalid="ignore"):
        found = in_their_span(G @ G.T)
    assert not found[1].any()
    assert np.isnan(found[3]).all()
    kept = [0, 1, 2, 4]
    assert (found[kept] @ found[kept].T).ravel() == pytest.approx((G[kept] @ G[kept].T).ravel())
