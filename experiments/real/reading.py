"""What the study reads off the model, each thing once: it goes on where it was interrupted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiments.real import pool
from spice.models import Checkpoint, Lora
from spice.pool import Pool
from spice.reading import Reading, read
from spice.records import Row
from spice.rendering import Template
from spice.selectors.kernel import Rows
from spice.signals import gradients
from spice.signals.extraction import Extraction
from spice.signals.source import Source

MAX_TOKENS = 256  # a longer answer's end is cut off: every reading and every tuning is of these
EXTRACTION = Extraction(
    lora=Lora(16, 32, 0.05, "all-linear"),
    reduction="mean",
    projection=65_536,
    dtype="float32",
    batch_size=8,
    batch_tokens=2048,
    recompute_tokens=8192,
    shard_rows=64,
    seed=0,
)
TRAINER: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
TEMPLATE = Template(
    mode="chat",
    system="{content}",
    user="{content}",
    answer="",
    earlier_answer="{content}",
    max_tokens=MAX_TOKENS,
)


@dataclass(frozen=True)
class Real:
    """The parts of the study under one checkpoint; ``folder`` keeps what is read."""

    checkpoint: Checkpoint
    folder: Path

    @cached_property
    def parts(self) -> pool.Parts:
        """The rows."""
        return pool.draw()

    @cached_property
    def rows(self) -> list[Row]:
        """The pool's rows, then their broken twins."""
        return [*self.parts.pool, *self.parts.broken]

    @cached_property
    def reading(self) -> Reading:
        """:attr:`rows` as the model reads them."""
        return self.read(self.rows)

    def read(self, rows: list[Row]) -> Reading:
        """Some rows as the model reads them."""
        return read(self.checkpoint, TEMPLATE, Pool(rows), self.folder / "weights")

    def gradients(self, rows: list[Row], name: str) -> Rows:
        """Per-sample gradients n × d of some rows."""
        reading, ids = self.read(rows), [row.id for row in rows]
        about = {"signal": name, "max_tokens": MAX_TOKENS, **EXTRACTION.fingerprint()}
        to = self.folder / name
        done = to / "done"
        if not done.is_file():
            gradients.extract(
                self.checkpoint.load(),
                EXTRACTION,
                reading.examples,
                ids,
                folder=to,
                metadata=about,
                pad_id=reading.pad_id,
                trainer=TRAINER,
                say=lambda message: print(f"{name}: {message}", flush=True),
            )
            done.touch()
        return gradients.read(to, EXTRACTION, reading.examples, ids, about)

    @cached_property
    def source(self) -> Source:
        """What the product's signals are read from, the development examples included."""
        return Source(
            rows=self.rows,
            reading=self.reading,
            extraction=EXTRACTION,
            targets=self.parts.examples,
            reading_of=lambda _: self.reading,
            trainer=TRAINER,
            say=lambda message: print(message, flush=True),
            gradients=lambda: self.gradients(self.rows, "gradients"),
        )

    def signal(self, name: str, signal: Any) -> np.ndarray:
        """A forward signal of all rows, or one that is built."""
        to = self.folder / name
        done = to / "done"
        to.mkdir(parents=True, exist_ok=True)
        if "build" in dir(signal):
            if not done.is_file():
                signal.build(to, self.source)
                done.touch()
            return signal.load(to)
        about = {"signal": name, "max_tokens": MAX_TOKENS}
        return self.source.forward(self.checkpoint.load(), signal, to, about)


def real(folder: Path) -> Real:
    """The study's parts under the checkpoint that ``SPICE_REAL_CHECKPOINT`` names."""
    named = os.environ.get("SPICE_REAL_CHECKPOINT", "checkpoints/smollm2-135m-instruct")
    checkpoint = Checkpoint(named, "float32")
    checkpoint.check("SPICE_REAL_CHECKPOINT")
    return Real(checkpoint, folder)
