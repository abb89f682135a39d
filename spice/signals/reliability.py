"""Reliability weights as signals: read off a finished gradient store, each under its own key."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from spice.data.row_table import sources_of
from spice.gradients import work
from spice.gradients.agreement import (
    Agreement,
    agreement,
    directions,
    judging_groups,
    nearest_example,
)
from spice.signals.base import Signal
from spice.signals.gradients import of_targets
from spice.storage.files import write_array
from spice.values import Seed, Several, Share, component

if TYPE_CHECKING:
    from pathlib import Path

    from spice.gradients.extraction import Extraction
    from spice.gradients.work import Work
    from spice.signals.source import Source

#: what is kept of each row: its weight, what spoke for and against it, and who judged it
FIELDS = [(name, "f8") for name in ("weight", "support", "opposition", "votes")] + [("group", "i8")]


@component
class Consensus(Signal):
    """What the other rows of its source say of a row; :mod:`spice.gradients.agreement` has it all.

    ``within`` is ``source``, or null where all rows judge each other. ``share`` of the votes is
    averaged; rows whose cosine is above ``copies`` are near copies. A source of more than
    ``references`` rows has so many voters, drawn from ``seed``.

    Raises:
        InputError: an option outside its range.
    """

    within: Literal["source"] | None
    share: Share
    copies: Share
    references: Several
    seed: Seed
    of_gradients: ClassVar[bool] = True

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """All its options."""
        return {"signal": "consensus", **asdict(self)}

    def build(self, folder: Path, source: Source) -> None:
        """Support and opposition of every row, and the trust that follows from them."""
        gradients = source.gradients()
        usable = directions(gradients)
        sources = sources_of(source.rows) if self.within else None
        groups = judging_groups(sources, usable)
        found = agreement(
            gradients,
            groups,
            share=self.share,
            copies=self.copies,
            references=self.references,
            seed=self.seed,
            names=source.ids,
        )
        write(folder, found.weights(), found.support, found.opposition, found.votes, groups)

    def work(self, source: Source) -> list[Work]:
        """No model goes over anything."""
        return []

    def pairs(self, source: Source) -> tuple[int, int]:
        """Each row with the voters of its source; those of one source are held at a time."""
        sources = sources_of(source.rows) if self.within else None
        groups = judging_groups(sources, np.ones(len(source.rows), dtype=bool))
        sizes = np.bincount(groups)
        each = sizes * np.minimum(sizes, self.references)
        return int(each.sum()), int(each.max())

    def load(self, folder: Path, source: Source) -> np.ndarray:
        """The table, n."""
        return read(folder)


@component
class Validation(Signal):
    """w_x = max(0, max_v cos(g_x, g_v)) over the validation examples v, at the same adapter."""

    of_gradients: ClassVar[bool] = True
    aims: ClassVar[bool] = True

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """Nothing but what it is."""
        return {"signal": "validation"}

    def build(self, folder: Path, source: Source) -> None:
        """Gradients of the examples, then the nearest one of each row."""
        weights = nearest_example(source.gradients(), of_targets(source, folder))
        nobody = np.zeros(len(weights))
        write(folder, weights, weights, nobody, nobody, nobody)

    def work(self, source: Source) -> list[Work]:
        """Gradients of the examples."""
        examples = source.tokenized.renderer.encode(source.targets)
        return [work.gradients(source.tokenized, examples)]

    def pairs(self, source: Source) -> tuple[int, int]:
        """Each row with each example, all at once."""
        count = len(source.rows) * len(source.targets)
        return count, count

    def load(self, folder: Path, source: Source) -> np.ndarray:
        """The table, n."""
        return read(folder)


def write(folder: Path, *columns: np.ndarray) -> None:
    """Keep the columns of :data:`FIELDS`, n each."""
    table = np.empty(len(columns[0]), dtype=FIELDS)
    for (name, _), values in zip(FIELDS, columns, strict=True):
        table[name] = values
    write_array(folder / "reliability.npy", table)


def read(folder: Path) -> np.ndarray:
    """The table, n."""
    return np.load(folder / "reliability.npy", allow_pickle=False)


def judged(table: np.ndarray) -> Agreement:
    """What spoke for and against each row; ``table`` n has :data:`FIELDS`."""
    return Agreement(table["support"], table["opposition"], table["group"], table["votes"])
