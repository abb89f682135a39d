"""What one batch may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BatchLimit:
    """The most rows and the most tokens, padding included, of a batch.

    Of more tokens than ``recomputed`` a model keeps no activations. Either may be None until it is
    known what memory there is (:class:`spice.models.room.Room`).
    """

    rows: int
    tokens: int | None = None
    recomputed: int | None = None

    def cut(self, lengths: Sequence[int]) -> list[slice]:
        """Cut a sequence into batches, which have one element at least; longest first is best."""
        cuts, start, width = [], 0, 0
        for i, length in enumerate(lengths):
            width = max(width, length)
            size = i + 1 - start
            if size > self.rows or (self.tokens and size > 1 and size * width > self.tokens):
                cuts.append(slice(start, i))
                start, width = i, length
        return [*cuts, slice(start, len(lengths))] if len(lengths) else []
