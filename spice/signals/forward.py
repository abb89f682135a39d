"""Signals that forward passes give, read and kept like gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from spice.data.rendering import Example
from spice.gradients.extraction import Extraction
from spice.gradients.passes import Pass, fill, open_store
from spice.signals.base import Signal
from spice.storage.coding import FLOAT32

Texts = Sequence[Sequence[Example]]  # equally many for each row


def extract(
    model: Any,
    signal: Signal,
    texts: Texts,
    ids: Sequence[str],
    extraction: Extraction,
    *,
    folder: Path,
    metadata: dict[str, Any],
    pad_id: int,
    trainer: dict[str, Any],
    say: Callable[[str], None],
) -> None:
    """Fill the store in ``folder`` with what it lacks, in ``extraction``'s batches and shards."""
    flat, rows, names = _flat(texts, ids)
    size = extraction.shard_rows
    store = open_store(folder, flat, rows, names, metadata, size, FLOAT32, signal.width(model))
    fill(
        store,
        Pass(model, signal.read),
        flat,
        budget=extraction.budget,
        pad_id=pad_id,
        trainer=trainer,
        say=say,
    )


def read(
    folder: Path,
    signal: Signal,
    texts: Texts,
    ids: Sequence[str],
    extraction: Extraction,
    metadata: dict[str, Any],
) -> np.ndarray:
    """A finished store's values, as the signal hands them to selectors."""
    flat, rows, names = _flat(texts, ids)
    store = open_store(folder, flat, rows, names, metadata, extraction.shard_rows, FLOAT32)
    values = store.read()
    return signal.collect(values.reshape(len(texts), -1, values.shape[1]))


def _flat(texts: Texts, ids: Sequence[str]) -> tuple[list[Example], list[int], list[str]]:
    """All texts one after the other, the places of those that hold something, and their names."""
    flat = list(chain.from_iterable(texts))
    rows = [place for place, text in enumerate(flat) if text.ids]
    names = [f"{row_id} {t}" for row_id, of_row in zip(ids, texts, strict=True)
             for t in range(len(of_row))]  # fmt: skip
    return flat, rows, names
