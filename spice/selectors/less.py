"""LESS: rows whose training step would help with given examples (arXiv 2402.04333)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from spice.models.lora import Lora
from spice.records import Selection, Signals
from spice.selectors.base import Selector
from spice.selectors.mix import Mix
from spice.selectors.ranking import top
from spice.signals.base import Signal
from spice.signals.influence import Influence
from spice.submodular.rooms import told
from spice.training.recipe import Recipe
from spice.values import Count, Seed, Share, component


@component
class Less(Mix, Selector):
    """Take the rows with the greatest influence on any target; see :class:`Influence`.

    Within a benchmark the best of its subtasks counts, as published. Several benchmarks are made
    comparable by z-scores over the pool before the best of them counts: that is our choice, for
    the method aims at one benchmark at a time.
    """

    warmup_share: Share
    lora: Lora
    recipe: Recipe
    projection: Count
    seed: Seed

    @property
    def needs(self) -> Mapping[str, Signal]:
        """The table of influences."""
        options = self.warmup_share, self.lora, self.recipe, self.projection, self.seed
        return {"influence": Influence(*options)}

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """The k highest; ties go to the smaller id."""
        rows = np.array(eligible, dtype=np.int64)
        scores = np.full(len(signals), np.nan)
        table = signals["influence"]
        read = np.all([np.isfinite(table[name][rows]) for name in table.dtype.names], axis=0)
        known, unread = rows[read], rows[~read]
        scores[known] = best_of_benchmarks(table[known])
        rooms = self.rooms(signals.sources, eligible, known, k)
        picks = top(scores, signals.ids, known, k, rooms)
        return Selection(
            n=len(signals),
            indices=picks,
            scores=scores[picks].tolist(),
            excluded={"no finite influence": unread.tolist()} if len(unread) else {},
            notes=told(rooms),
        )


def best_of_benchmarks(influence: np.ndarray) -> np.ndarray:
    """Scores of the rows, n.

    ``influence`` n is structured, with a column ``benchmark/subtask`` each.
    """
    columns: dict[str, list[np.ndarray]] = {}
    for name in influence.dtype.names or ():
        columns.setdefault(name.split("/")[0], []).append(influence[name])
    each = [np.max(parts, axis=0) for parts in columns.values()]
    if len(each) > 1:
        each = [(values - values.mean()) / (values.std() or 1.0) for values in each]
    return np.max(each, axis=0)
