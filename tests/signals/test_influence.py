"""LESS's features against their formulas, and the table against a loop over single rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from compose import composed
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from spice.data.batches import pad
from spice.data.identity import identify
from spice.data.pool import Pool
from spice.distributed.per_rank import PerRank
from spice.errors import InputError
from spice.gradients.extraction import Extraction
from spice.models.checkpoint import Checkpoint
from spice.models.lora import Lora
from spice.models.loss import response_nll
from spice.models.tokenized import Tokenized, tokenize
from spice.records import Row
from spice.signals.adam_features import (
    AdamState,
    Features,
    adam_direction,
    coordinates,
    load_state,
    sketch,
)
from spice.signals.influence import Influence, epoch_ends
from spice.signals.source import Source
from spice.training.epochs import EpochKeeper
from spice.training.finetune import finetune, learning_rates
from spice.training.recipe import Recipe

LORA = Lora(4, 8, 0.0, ("q_proj", "v_proj"))
RECIPE = Recipe(3, None, 0.02, "linear", 0.0, 0.0, 1.0, 4, 4, 5)
WORDS = ["red", "green", "blue", "black", "white", "grey"]
ROWS = identify(
    Row("", f"Say {WORDS[i % 6]} {i} times.", "", " ".join([WORDS[i % 6]] * (i % 4 + 1)), "a")
    for i in range(12)
)
TARGETS = identify(
    Row("", f"Shout {word}.", "", word, source)
    for word, source in (("pink", "one/a"), ("brown", "one/b"), ("gold", "one/b"), ("tan", "two"))
)
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture
def reading(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Tokenized:
    checkpoint = Checkpoint(str(make_checkpoint("llama")), "float32")
    template = instantiate(composed("template=plain").template)
    return tokenize(checkpoint, template, Pool(ROWS), tmp_path / "memo")


def source_of(reading: Tokenized, extraction: Extraction, targets: list[Row]) -> Source:
    return Source(
        rows=ROWS,
        tokenized=reading,
        extraction=extraction,
        key={"signal": "asked"},
        targets=targets,
        tokenized_by=lambda checkpoint: reading,
        trainer=QUIET,
        say=lambda message: None,
        gradients=lambda: np.zeros((len(ROWS), 1)),
    )


def test_methods_section_5_worked_example() -> None:
    state = AdamState(torch.tensor([0.1, 0.0]).double(), torch.tensor([0.01, 0.04]).double())
    [moved] = adam_direction(torch.tensor([[1.0, -2.0]]).double(), state)
    assert moved.tolist() == pytest.approx([1.812402, -0.953896], abs=5e-7)
    unit = moved / moved.norm()
    assert unit.tolist() == pytest.approx([0.884918, -0.465747], abs=5e-7)
    assert float(unit.mean()) == pytest.approx(0.209586, abs=5e-7)  # cosines with e1 and e2


def test_epsilon_stands_inside_the_root() -> None:
    state = AdamState(torch.zeros(1).double(), torch.zeros(1).double())
    gradient = torch.tensor([[1e-2]]).double()  # v' = 1e-7, m' = 1e-3
    assert float(adam_direction(gradient, state)) == pytest.approx(1e-3 / (1.1e-7) ** 0.5)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_the_moments_are_those_of_torchs_adam(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    parameter = torch.nn.Parameter(torch.randn(7, generator=draw, dtype=torch.float64))
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    for _ in range(3):
        parameter.grad = torch.randn(7, generator=draw, dtype=torch.float64)
        optimizer.step()
    kept = optimizer.state[parameter]
    state = AdamState(kept["exp_avg"].clone(), kept["exp_avg_sq"].clone())
    gradient = torch.randn(7, generator=draw, dtype=torch.float64)
    ours = adam_direction(gradient[None], state)[0]
    parameter.grad = gradient
    optimizer.step()
    kept = optimizer.state[parameter]
    assert torch.allclose(ours, kept["exp_avg"] / (kept["exp_avg_sq"] + 1e-8).sqrt())


def test_every_epoch_leaves_weights_and_moments_by_name(reading: Tokenized, tmp_path: Path) -> None:
    model = LORA.attach(reading.checkpoint.load(), 0)
    ends = epoch_ends(10, RECIPE)
    assert ends == [3, 5, 8]  # steps of four rows: 2.5, 5 and 7.5 of them
    finetune(
        PerRank(lambda: model), RECIPE, reading.examples, range(10), folder=tmp_path, pad_id=0,
        seed=1,
        trainer={**QUIET, "callbacks": [EpochKeeper(tmp_path, ends)], "logger": False},
    )  # fmt: skip
    last = load_file(tmp_path / "epoch-2.safetensors")
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(last[name], parameter)
            assert last[f"{name}.exp_avg"].shape == parameter.shape
    first = load_file(tmp_path / "epoch-0.safetensors")
    assert any(not torch.equal(first[name], last[name]) for name in first)
    state = load_state(tmp_path / "epoch-0.safetensors", model)
    names = coordinates(model)
    assert len(names) == 8  # A and B of two targets in two layers
    expected = torch.cat([first[f"{name}.exp_avg_sq"].flatten() for name in names])
    assert torch.equal(state.second, expected)

    victim = names[3]
    for change, message in ((None, f"no {victim}.exp_avg"), (torch.zeros(3), "is \\[3\\], not")):
        damaged = {k: v for k, v in first.items() if k != f"{victim}.exp_avg"}
        if change is not None:
            damaged[f"{victim}.exp_avg"] = change
        save_file(damaged, tmp_path / "damaged.safetensors")
        with pytest.raises(InputError, match=message):
            load_state(tmp_path / "damaged.safetensors", model)


def test_the_rates_decay_in_a_line() -> None:
    assert learning_rates(RECIPE, 4) == pytest.approx([0.02, 0.015, 0.01, 0.005])


def test_sketches_keep_inner_products_on_average_and_small_vectors_as_they_are() -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 600, generator=draw, dtype=torch.float64)
    assert torch.equal(sketch(x[None], 600, 1)[0], x)
    found = [
        float(sketch(x[None], 100, seed)[0] @ sketch(y[None], 100, seed)[0]) for seed in range(400)
    ]
    spread = float(x.norm() * y.norm()) / 100**0.5
    assert np.mean(found) == pytest.approx(float(x @ y), abs=4 * spread / 400**0.5)
    assert np.std(found) == pytest.approx(spread, rel=0.25)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(1e-3, 1e3))
def test_the_length_of_a_validation_gradient_does_not_count(seed: int, factor: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    rows, aims = torch.randn(2, 5, 300, generator=draw, dtype=torch.float64)
    features = Features(None, None, 100, seed, "mean")  # type: ignore[arg-type]
    cosines = features._unit(rows) @ features._unit(aims).T
    assert torch.allclose(features._unit(rows) @ features._unit(factor * aims).T, cosines)
    assert cosines.abs().max() <= 1 + 1e-9


def test_a_projection_with_columns_of_unit_length_would_shrink_inner_products() -> None:
    """The published code's: ‖Pg‖² falls to p/d of ‖g‖², where the sketch keeps it on average."""
    draw = torch.Generator().manual_seed(3)
    d, p = 4000, 100
    G = torch.randn(6, d, generator=draw, dtype=torch.float64)
    P = torch.randn(d, p, generator=draw, dtype=torch.float64)
    shrunk = G @ (P / P.norm(dim=0))
    lengths = G.square().sum(dim=1)
    assert (shrunk.square().sum(dim=1) / lengths) == pytest.approx(np.full(6, p / d), rel=0.6)
    kept = torch.stack([sketch(G, p, seed).square().sum(dim=1) for seed in range(50)]).mean(dim=0)
    assert (kept / lengths).numpy() == pytest.approx(np.ones(6), rel=0.15)


def test_the_table_is_what_single_rows_and_examples_give(
    reading: Tokenized, tmp_path: Path
) -> None:
    signal = Influence(0.5, LORA, RECIPE, 8192, 0)
    extraction = Extraction(LORA, "mean", None, "float32", 5, 10_000, 9_000, 4, 0)
    kept = tmp_path / "kept"
    kept.mkdir()
    source = source_of(reading, extraction, TARGETS)
    signal.build(kept, source)
    table = signal.load(kept, source)
    assert table.dtype.names == ("one/a", "one/b", "two")
    assert sorted(path.name for path in kept.iterdir()) == ["influence.npy", "subtasks.json"]

    model = LORA.attach(reading.checkpoint.load(), 0)
    warm = tmp_path / "warm"
    warm.mkdir()
    rates = signal._warm_up(PerRank(lambda: model), source, range(12), warm)
    assert sum(rates) == pytest.approx(1)
    aims = reading.renderer.encode(TARGETS)
    expected = np.zeros((12, 4))
    for epoch, rate in enumerate(rates):
        state = load_state(warm / f"epoch-{epoch}.safetensors", model)
        model.double().eval()
        parameters = dict(model.named_parameters())
        chosen = [parameters[name] for name in coordinates(model)]

        def gradient(examples: list, place: int, chosen: list = chosen) -> torch.Tensor:
            nll, count = response_nll(model, pad(examples, [place], 0))
            found = torch.autograd.grad(nll[0] / count[0], chosen)
            return torch.cat([g.flatten() for g in found]).double()

        for v in range(4):
            aim = gradient(aims, v)
            for z in range(12):
                step = adam_direction(gradient(reading.examples, z)[None], state)[0]
                expected[z, v] += rate * float(step @ aim / step.norm() / aim.norm())
        model.float()
    assert table["one/a"] == pytest.approx(expected[:, 0], abs=1e-4)
    assert table["one/b"] == pytest.approx(expected[:, 1:3].mean(axis=1), abs=1e-4)
    assert table["two"] == pytest.approx(expected[:, 3], abs=1e-4)


def test_no_example_that_fits_is_an_error(reading: Tokenized, tmp_path: Path) -> None:
    long = identify([Row("", "x" * 300, "", "y", "a")])
    signal = Influence(0.5, LORA, RECIPE, 8192, 0)
    extraction = Extraction(LORA, "mean", None, "float32", 5, 10_000, 9_000, 4, 0)
    with pytest.raises(InputError, match="none of the validation examples fits"):
        signal.build(tmp_path, source_of(reading, extraction, long))
