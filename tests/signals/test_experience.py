"""A first acquaintance with the pool: which rows, and what the losses are afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compose import composed
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st

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
from spice.signals.experience import Experience, ExperiencedLosses, Prompts, k_means, middle
from spice.signals.forward import read_off
from spice.signals.losses import Losses
from spice.signals.ratings import Panel, RaterSizes, Ratings
from spice.signals.source import Source
from spice.training.recipe import Recipe

LORA = Lora(4, 8, 0.0, ("q_proj", "v_proj"))
RECIPE = Recipe(2, None, 0.02, "linear", 0.0, 0.0, 1.0, 4, 4, 5)
WORDS = ["red", "green", "blue", "black", "white", "grey"]
ROWS = identify(
    Row("", f"Say {WORDS[i % 6]} {i} times.", "", " ".join([WORDS[i % 6]] * (i % 4 + 1)), "a")
    for i in range(16)
)
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
RANDOM = Experience("random", 0.5, None, None, LORA, RECIPE, 0)
CLUSTERS = Experience("clusters", None, 3, 2, LORA, RECIPE, 0)


@pytest.fixture
def source_of(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Callable[..., Source]:
    template = instantiate(composed("template=plain").template)

    def reading(checkpoint: Checkpoint, rows: list[Row] = ROWS) -> Tokenized:
        return tokenize(checkpoint, template, Pool(rows), tmp_path / "memo")

    def make(rows: list[Row] = ROWS, batch_size: int = 3) -> Source:
        checkpoint = Checkpoint(str(make_checkpoint("llama")), "float32")
        return Source(
            rows=rows,
            tokenized=reading(checkpoint, rows),
            extraction=Extraction(LORA, "mean", None, "float32", batch_size, 10_000, 9_000, 4, 0),
            key={"signal": "asked"},
            targets=[],
            tokenized_by=lambda other: reading(other, rows),
            trainer=QUIET,
            say=lambda message: None,
            gradients=lambda: np.zeros((len(rows), 1)),
        )

    return make


@pytest.mark.parametrize("experience", [RANDOM, CLUSTERS], ids=["random", "clusters"])
def test_the_rows_do_not_depend_on_the_pools_order_or_the_batches(
    source_of: Callable[..., Source], experience: Experience, tmp_path: Path
) -> None:
    source = source_of()
    model = PerRank(source.tokenized.checkpoint.load)
    rows = experience.rows(tmp_path / "one", source, model)
    assert len(rows) == len(set(rows)) == (8 if experience is RANDOM else len(rows))
    assert 3 <= len(rows) <= 8
    order = np.random.default_rng(1).permutation(len(ROWS)).tolist()
    moved = source_of([ROWS[i] for i in order], batch_size=7)
    again = experience.rows(tmp_path / "other", moved, model)
    assert {order[row] for row in again} == set(rows)


def test_prompts_are_read_alone(source_of: Callable[..., Source], tmp_path: Path) -> None:
    source = source_of()
    model: Any = source.tokenized.checkpoint.load()
    found = read_off(PerRank(lambda: model), Prompts(), source, tmp_path, {})
    for row, example in zip(found, source.tokenized.examples, strict=True):
        prompt = torch.tensor([example.ids[: example.start]])
        with torch.no_grad():
            out = model(input_ids=prompt, output_hidden_states=True)
        nll = torch.nn.functional.cross_entropy(out.logits[0, :-1], prompt[0, 1:])
        assert row[-1] == pytest.approx(float(nll), rel=1e-4)
        assert row[:-1] == pytest.approx(
            out.hidden_states[-1][0].mean(dim=0).numpy(), rel=1e-3, abs=1e-4
        )


@pytest.mark.parametrize("experience", [RANDOM, CLUSTERS], ids=["random", "clusters"])
def test_experienced_losses_are_those_of_the_tuned_model(
    source_of: Callable[..., Source], experience: Experience, tmp_path: Path
) -> None:
    source, signal = source_of(), ExperiencedLosses(experience)
    kept, apart = tmp_path / "kept", tmp_path / "apart"
    kept.mkdir()
    apart.mkdir()
    signal.build(kept, source)
    found = signal.load(kept, source)
    assert sorted(path.name for path in kept.iterdir()) == ["losses.npy"]
    tuned = experience.gain(apart, source)()
    for row, example in zip(found, source.tokenized.examples, strict=True):
        with torch.no_grad():
            nll, count = response_nll(tuned, pad([example], [0], 0))
        assert row[0] == pytest.approx(float(nll[0] / count[0]), rel=1e-4)
    untouched = read_off(
        PerRank(source.tokenized.checkpoint.load), Losses(), source, tmp_path / "base", {}
    )
    assert found[:, 0].mean() < 0.95 * untouched[:, 0].mean()
    again = experience.gain(apart, source)()  # takes up the adapter that is there
    pairs = zip(tuned.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 99))
def test_clusters_part_the_rows_and_near_ones_stay_together(
    n: int, clusters: int, seed: int
) -> None:
    values = np.random.default_rng(seed).integers(0, 6, (n, 1)).astype(np.float64)
    labels = k_means(values, clusters, 0)
    assert len(labels) == n
    assert len(set(labels)) == min(clusters, len(np.unique(values)))
    by_value = {float(v): {int(x) for x in labels[values[:, 0] == v]} for v in values[:, 0]}
    assert all(len(found) == 1 for found in by_value.values())


def test_the_middle_is_spaced_evenly_between_the_quartiles() -> None:
    losses = np.arange(40)[::-1].astype(np.float64)
    chosen = middle(np.arange(40), losses, 5)
    assert losses[chosen].tolist() == [10, 15, 20, 24, 29]
    assert middle(np.arange(3), losses, 10) == [2, 1, 0]
    assert middle(np.arange(40), losses, 20) == list(range(29, 9, -1))


def test_a_panel_reads_every_model_and_counts_its_parameters(
    source_of: Callable[..., Source], make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    source, requests = source_of(), ["{instruction} {response} Grade:"]
    other = Checkpoint(str(make_checkpoint("qwen2")), "float32")
    signal, sizes = Panel(requests, [other]), RaterSizes([other])
    signal.build(tmp_path, source)
    sizes.build(tmp_path, source)
    found = signal.load(tmp_path, source)
    assert found.shape == (16, 2, 1, 5)
    for place, checkpoint in enumerate([source.tokenized.checkpoint, other]):
        model, reading = checkpoint.load(), source.tokenized_by(checkpoint)
        alone = read_off(
            PerRank(checkpoint.load), Ratings(requests), source, tmp_path / f"alone{place}", {},
            tokenized=reading,
        )  # fmt: skip
        assert found[:, place] == pytest.approx(alone)
        assert sizes.load(tmp_path, source)[place] == model.num_parameters()
    assert not np.allclose(found[:, 0], found[:, 1])


@pytest.mark.parametrize(
    "options",
    [("odd", 0.5, 3, 2), ("random", None, 3, 2), ("random", 1.5, None, None),
     ("clusters", None, 0, 2), ("clusters", None, 3, None)],
)  # fmt: skip
def test_impossible_settings_are_refused(options: tuple) -> None:
    with pytest.raises(InputError, match=r"^(choose|share|clusters|per_cluster)="):
        Experience(*options, LORA, RECIPE, 0)
