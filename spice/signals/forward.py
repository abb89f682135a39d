"""Signals that forward passes give, read and kept like gradients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from spice.distributed.per_rank import PerRank
from spice.gradients import work
from spice.signals.base import Signal
from spice.storage.coding import FLOAT32

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from spice.data.batches import Batch
    from spice.data.rendering import Example, Renderer
    from spice.gradients.work import Work
    from spice.models.tokenized import Tokenized
    from spice.records import Row
    from spice.signals.source import Source

FLOAT = 4  # bytes of a stored number

Texts = Sequence[Sequence["Example"]]  # equally many for each row


class ForwardSignal(Signal):
    """A vector for each of a few texts per row, from forward passes alone."""

    @abstractmethod
    def texts(
        self, renderer: Renderer, rows: Sequence[Row], examples: Sequence[Example]
    ) -> list[list[Example]]:
        """The texts of each row, equally many; one without tokens is not read and stays NaN."""

    @abstractmethod
    def width(self, config: Any) -> int:
        """The length of a vector, by a model's configuration."""

    @abstractmethod
    def read(self, model: Any, batch: Batch) -> Tensor:
        """The vectors of a batch of texts, b × width."""

    @abstractmethod
    def collect(self, values: np.ndarray) -> np.ndarray:
        """What selectors see, from n × texts × width."""

    def build(self, folder: Path, source: Source) -> None:
        """Read every text of the pool."""
        texts = self._texts(source)
        model = PerRank(source.tokenized.checkpoint.load)
        _extract(model, self, texts, source.ids, source, source.tokenized, folder, source.key)

    def load(self, folder: Path, source: Source) -> np.ndarray:
        """The values as selectors see them: :meth:`collect` makes them of n × texts × width."""
        return _load(self, self._texts(source), source.ids, source, folder, source.key)

    def work(self, source: Source) -> list[Work]:
        """One pass over every text."""
        return [work.forward(source.tokenized, self._texts(source))]

    def size(self, source: Source, coordinates: int) -> int:
        """Bytes of a text's vector."""
        return FLOAT * self.width(source.tokenized.checkpoint.config())

    def _texts(self, source: Source) -> list[list[Example]]:
        read_by = source.tokenized
        return self.texts(read_by.renderer, source.rows, read_by.examples)


def read_off(
    model: PerRank[Any],
    signal: ForwardSignal,
    source: Source,
    folder: Path,
    about: dict[str, Any],
    *,
    rows: Sequence[Row] | None = None,
    tokenized: Tokenized | None = None,
) -> np.ndarray:
    """A forward signal of the pool, or of other ``rows``, off a ``model``; kept in ``folder``.

    It is what :meth:`ForwardSignal.collect` makes of n × texts × width, n being the rows.
    """
    tokenized = tokenized or source.tokenized
    examples = tokenized.examples if rows is None else tokenized.renderer.encode(rows)
    rows = source.rows if rows is None else rows
    texts, ids = signal.texts(tokenized.renderer, rows, examples), [row.id for row in rows]
    _extract(model, signal, texts, ids, source, tokenized, folder, about)
    return _load(signal, texts, ids, source, folder, about)


def _extract(
    model: PerRank[Any],
    signal: ForwardSignal,
    texts: Texts,
    ids: Sequence[str],
    source: Source,
    tokenized: Tokenized,
    folder: Path,
    about: dict[str, Any],
) -> None:
    """Fill the store in ``folder`` with what it lacks, in the extraction's batches and shards."""
    from spice.gradients.passes import fill, open_store  # keeps torch out of start-up

    flat, rows, names = _flat(texts, ids)
    size, width = source.extraction.shard_rows, signal.width(tokenized.checkpoint.config())
    store = open_store(folder, flat, rows, names, about, size, FLOAT32, width)
    fill(
        store,
        model,
        signal.read,
        flat,
        limit=source.extraction.batch_limit,
        kind="passing",
        pad_id=tokenized.pad_id,
        trainer=source.trainer,
        say=source.say,
    )


def _load(
    signal: ForwardSignal,
    texts: Texts,
    ids: Sequence[str],
    source: Source,
    folder: Path,
    about: dict[str, Any],
) -> np.ndarray:
    from spice.gradients.passes import open_store

    flat, rows, names = _flat(texts, ids)
    size = source.extraction.shard_rows
    values = open_store(folder, flat, rows, names, about, size, FLOAT32).read()
    return signal.collect(values.reshape(len(texts), -1, values.shape[1]))


def _flat(texts: Texts, ids: Sequence[str]) -> tuple[list[Example], list[int], list[str]]:
    """All texts one after the other, the places of those that hold something, and their names."""
    flat = list(chain.from_iterable(texts))
    rows = [place for place, text in enumerate(flat) if text.ids]
    names = [f"{row_id} {t}" for row_id, of_row in zip(ids, texts, strict=True)
             for t in range(len(of_row))]  # fmt: skip
    return flat, rows, names
