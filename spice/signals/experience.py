"""A first acquaintance of the proxy with the pool, before it is asked about the rows."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spice.data.rendering import Example
from spice.data.token_table import eligible_rows
from spice.distributed.per_rank import PerRank
from spice.gradients import work
from spice.models.lora import Lora
from spice.signals.base import Signal
from spice.signals.embeddings import Embeddings
from spice.signals.forward import ForwardSignal, read_off
from spice.signals.losses import Losses
from spice.storage import seals
from spice.storage.files import write_array
from spice.training.recipe import Recipe
from spice.values import Count, RefusedError, Seed, Share, component

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

    from spice.data.batches import Batch
    from spice.data.rendering import Renderer
    from spice.gradients.extraction import Extraction
    from spice.gradients.work import Work
    from spice.models.checkpoint import Checkpoint
    from spice.records import Row
    from spice.signals.source import Source


@component
class Experience:
    """A brief tuning of a fresh adapter on a part of the pool.

    ``choose`` ``random`` takes ``share`` of the rows. ``clusters`` takes ``per_cluster`` rows of
    each of ``clusters`` k-means clusters of the prompts' mean hidden states, evenly spaced in the
    middle half of the cluster's prompt losses (arXiv 2308.12032, section 2.1). ``seed`` draws the
    rows and the adapter, and starts k-means.

    Raises:
        RefusedError: an option outside its range.
    """

    choose: Literal["random", "clusters"]
    share: Share | None
    clusters: Count | None
    per_cluster: Count | None
    lora: Lora
    recipe: Recipe
    seed: Seed

    def __post_init__(self) -> None:
        asked = ("share",) if self.choose == "random" else ("clusters", "per_cluster")
        for name in asked:
            if getattr(self, name) is None:
                raise RefusedError(name, None, f"choose={self.choose} needs it")

    def gain(self, folder: Path, source: Source) -> PerRank[PeftModel]:
        """The proxy with the tuned adapter; what an interrupted run left is gone on from."""
        if seals.damaged(folder / "adapter"):
            self._tune(folder, source)
        return PerRank(partial(_experienced, source.tokenized.checkpoint, folder / "adapter"))

    def _tune(self, folder: Path, source: Source) -> None:
        from spice.training.finetune import finetune  # keeps torch out of start-up

        base = PerRank(source.tokenized.checkpoint.load)
        rows = self.rows(folder, source, base)
        source.say(f"tuning briefly on {len(rows)} rows")
        finetune(
            PerRank(partial(self._adapted, base)),
            self.recipe,
            source.tokenized.examples,
            rows,
            folder=folder,
            pad_id=source.tokenized.pad_id,
            seed=self.seed,
            trainer={**source.trainer, "logger": False},
        )
        seals.seal(folder / "adapter")

    def _adapted(self, base: PerRank[PreTrainedModel]) -> PeftModel:
        return self.lora.attach(base(), self.seed)

    def work(self, source: Source) -> list[Work]:
        """The prompts, where rows are drawn by them, and the tuning."""
        tokenized, n = source.tokenized, len(source.rows)
        if self.choose == "random":
            return [work.training(tokenized, self.recipe, (self.share or 0.0) * n)]
        prompts = Prompts().texts(tokenized.renderer, source.rows, tokenized.examples)
        count = min((self.clusters or 0) * (self.per_cluster or 0), n)
        return [work.forward(tokenized, prompts), work.training(tokenized, self.recipe, count)]

    def rows(self, folder: Path, source: Source, base: PerRank[PreTrainedModel]) -> list[int]:
        """What is tuned on."""
        usable = eligible_rows(source.tokenized.examples)
        if self.choose == "random":
            assert self.share is not None
            return drawn_rows(source.ids, usable, self.share, self.seed)
        assert self.clusters is not None
        assert self.per_cluster is not None
        prompts = Prompts()
        values = read_off(base, prompts, source, folder / "prompts", source.key)
        rows = [row for row in usable if np.isfinite(values[row]).all()]
        rows = sorted(rows, key=lambda row: source.ids[row])
        labels = k_means(values[rows, :-1], self.clusters, self.seed)
        return [
            rows[place]
            for label in np.unique(labels)
            for place in middle(np.flatnonzero(labels == label), values[rows, -1], self.per_cluster)
        ]


def _experienced(checkpoint: Checkpoint, adapter: Path) -> PeftModel:
    from peft import PeftModel  # keeps torch out of start-up

    return PeftModel.from_pretrained(checkpoint.load(), str(adapter)).eval()


def drawn_rows(ids: Sequence[str], rows: Sequence[int], share: float, seed: int) -> list[int]:
    """A share of the rows, at least one; the order of the pool changes nothing."""
    in_order = sorted(rows, key=lambda row: ids[row])
    count = max(1, round(share * len(in_order)))
    return np.random.default_rng(seed).permutation(in_order)[:count].tolist()


def k_means(values: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Each row's cluster (n) of points n × h; fewer than ``clusters`` where points coincide."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    count = min(clusters, len(np.unique(values, axis=0)))
    with threadpool_limits(1):  # sums in one order, so the same clusters on any number of cores
        return KMeans(count, n_init=10, random_state=seed).fit_predict(values.astype(np.float64))


def middle(places: np.ndarray, losses: np.ndarray, count: int) -> list[int]:
    """``count`` of the places, evenly spaced by rank between the quartiles of their losses.

    ``places`` m are some of the n rows that ``losses`` n are of.
    """
    in_order = places[np.argsort(losses[places], kind="stable")]
    between = in_order[len(in_order) // 4 : len(in_order) - len(in_order) // 4]
    chosen = np.unique(np.linspace(0, len(between) - 1, min(count, len(between))).round())
    return between[chosen.astype(np.int64)].tolist()


class Prompts(ForwardSignal):
    """The mean of the last hidden states over a row's prompt, and its mean loss: n × (h + 1).

    A conversation's prompt is all before its last answer that is learnt, earlier answers included.
    """

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """Nothing but what it is."""
        return {"signal": "prompts"}

    def texts(
        self, renderer: Renderer, rows: Sequence[Row], examples: Sequence[Example]
    ) -> list[list[Example]]:
        """The prompt alone; its first token is not predicted."""
        return [
            [Example(e.ids[: e.start], 1) if e.start > 1 and e.supervised else Example([], 0)]
            for e in (example.last_answer() for example in examples)
        ]

    def width(self, config: Any) -> int:
        """h + 1."""
        return int(config.hidden_size) + 1

    def read(self, model: Any, batch: Batch) -> Tensor:
        """States and losses of a batch of prompts."""
        import torch

        states = Embeddings().read(model, batch)
        return torch.cat([states, Losses().read(model, batch)], dim=1)

    def collect(self, values: np.ndarray) -> np.ndarray:
        """n × (h + 1)."""
        return values[:, 0]


@dataclass(frozen=True)
class ExperiencedLosses(Signal):
    """:class:`Losses` as the proxy has them after an :class:`Experience`, n × 2."""

    experience: Experience

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """What the experience was."""
        return {"signal": "losses", "experience": dataclasses.asdict(self.experience)}

    def build(self, folder: Path, source: Source) -> None:
        """Gain the experience, then read the losses."""
        model = self.experience.gain(folder, source)
        found = read_off(model, Losses(), source, folder / "store", source.key)
        write_array(folder / "losses.npy", found)
        for name in ("adapter", "checkpoints", "prompts", "store"):
            shutil.rmtree(folder / name, ignore_errors=True)

    def work(self, source: Source) -> list[Work]:
        """The experience, and the losses after it."""
        tokenized = source.tokenized
        texts = Losses().texts(tokenized.renderer, source.rows, tokenized.examples)
        return [*self.experience.work(source), work.forward(tokenized, texts)]

    def load(self, folder: Path, source: Source) -> np.ndarray:
        """n × 2."""
        return np.load(folder / "losses.npy", allow_pickle=False)
