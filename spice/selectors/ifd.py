"""IFD: how little an instruction helps with its response (arXiv 2308.12032, 2402.00530)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from spice.records import Selection, Signals
from spice.selectors.base import Selector
from spice.selectors.mix import Mix
from spice.selectors.ranking import top
from spice.signals.base import Signal
from spice.signals.experience import Experience, ExperiencedLosses
from spice.signals.losses import Losses
from spice.submodular.rooms import told
from spice.values import component


@component
class Ifd(Mix, Selector):
    """Take the highest scores that still show some help from the instruction.

    With L_cond the mean loss of the response given its prompt, L_dir that of the same tokens given
    only what opens a response: ``ratio`` ``loss`` scores L_cond / L_dir and keeps scores ≤ 1 (the
    authors' first code), ``perplexity`` scores exp(L_cond − L_dir) and keeps scores < 1 (their
    second). Both keep the same rows but for ties at 1, and rank them differently. The losses are
    the proxy's as it is, or after an ``experience`` of some rows.

    Raises:
        InputError: an option outside its range.
    """

    ratio: Literal["loss", "perplexity"]
    experience: Experience | None

    @property
    def needs(self) -> Mapping[str, Signal]:
        """Both losses."""
        if self.experience:
            return {"experienced_losses": ExperiencedLosses(self.experience)}
        return {"losses": Losses()}

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """The k highest that are kept, or all of them; ties go to the smaller id."""
        [losses] = (signals[name] for name in self.needs)
        scores = ifd(losses, self.ratio)
        kept = scores <= 1 if self.ratio == "loss" else scores < 1
        rows = np.array(eligible, dtype=np.int64)
        invalid = rows[~np.isfinite(scores[rows])]
        dropped = rows[np.isfinite(scores[rows]) & ~kept[rows]]
        usable = rows[kept[rows]]
        rooms = self.rooms(signals.sources, eligible, usable, k)
        picks = top(scores, signals.ids, usable, k, rooms)
        excluded = {
            "no valid loss": invalid.tolist(),
            "instruction does not help": dropped.tolist(),
        }
        return Selection(
            n=len(signals),
            indices=picks,
            scores=scores[picks].tolist(),
            excluded={why: sorted(which) for why, which in excluded.items() if which},
            notes=told(rooms),
        )


def ifd(losses: np.ndarray, ratio: str) -> np.ndarray:
    """Scores from conditional and direct losses n × 2; NaN where there is no direct loss."""
    conditional, direct = losses.T.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = conditional / direct if ratio == "loss" else np.exp(conditional - direct)
    return np.where(direct > 0, scores, np.nan)
