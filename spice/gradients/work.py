"""What a stage makes a model go over, counted in texts and not yet in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spice.data.batch_limit import BatchLimit
from spice.data.token_table import lengths, supervised

if TYPE_CHECKING:
    from spice.data.rendering import Example
    from spice.models.tokenized import Tokenized
    from spice.training.recipe import Recipe

KINDS = ("forward", "gradients", "training")


@dataclass(frozen=True)
class Work:
    """Passes of one ``kind`` over texts of given ``lengths``, ``times`` over (a share counts).

    ``forward`` keeps nothing, ``gradients`` are per sample, ``training`` is a step's forward and
    backward. ``rows`` are a training batch's; the others' batches are the extraction's.
    """

    kind: str
    tokenized: Tokenized
    lengths: Sequence[int]
    times: float = 1.0
    rows: int | None = None

    def batches(self, limit: BatchLimit) -> np.ndarray:
        """Rows and padded width of each batch, m × 2; training's order is drawn at random."""
        lengths = np.array([length for length in self.lengths if length], dtype=np.int64)
        if self.rows is None:
            lengths = -np.sort(-lengths)
        else:
            lengths = np.random.default_rng(0).permutation(lengths)
        parts = [lengths[part] for part in limit.cut(lengths.tolist())]
        return np.array([[len(part), part.max()] for part in parts]).reshape(-1, 2)

    def tokens(self, limit: BatchLimit) -> float:
        """All that are read, padding included."""
        return self.times * float(self.batches(limit).prod(axis=1).sum())

    def within(self, limit: BatchLimit) -> BatchLimit:
        """What its batches may hold: training's have rows of their own, and memory decides."""
        return limit if self.rows is None else BatchLimit(self.rows)


def forward(tokenized: Tokenized, texts: Sequence[Sequence[Example]]) -> Work:
    """One forward pass over all texts of all rows."""
    return Work("forward", tokenized, [len(text.ids) for of_row in texts for text in of_row])


def gradients(tokenized: Tokenized, examples: Sequence[Example], times: float = 1.0) -> Work:
    """Per-sample gradients of all rows with something to learn from."""
    return Work("gradients", tokenized, _supervised(examples), times)


def training(tokenized: Tokenized, recipe: Recipe, rows: float) -> Work:
    """A recipe's passes over so many rows, drawn like the pool's."""
    lengths = _supervised(tokenized.examples)
    passes = rows * recipe.epochs
    if recipe.max_steps is not None:
        passes = min(passes, recipe.max_steps * recipe.batch_size)
    size = min(recipe.micro_batch_size, recipe.batch_size)
    return Work("training", tokenized, lengths, passes / max(len(lengths), 1), size)


def _supervised(examples: Sequence[Example]) -> list[int]:
    return lengths(examples)[supervised(examples) > 0].tolist()
