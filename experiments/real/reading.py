"""What the study reads off the model, each thing once: it goes on where it was interrupted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiments.real import pool
from spice.data.pool import Pool
from spice.data.template import Template
from spice.gradients import store as gradients
from spice.gradients.extraction import Extraction
from spice.models.checkpoint import Checkpoint
from spice.models.lora import Lora
from spice.models.tokenized import Tokenized, tokenize
from spice.records import Row
from spice.signals.forward import read_off
from spice.signals.source import Source
from spice.submodular.kernel import Rows

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
    supervise="all",
    system_turn="keep",
    date="2024-07-26",
    on_bad_row="error",
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
    def blocks(self) -> dict[str, list[Row]]:
        """The pool with its first planting, and the rows of the others."""
        first, *others = self.parts.plantings
        more = {row.id: row for planting in others for row in planting.rows}
        there = {row.id for row in first.rows}
        return {
            "": [*self.parts.pool, *first.rows],
            "more_": [row for row_id, row in more.items() if row_id not in there],
        }

    @cached_property
    def rows(self) -> list[Row]:
        """The pool's rows, then all broken twins."""
        return [row for block in self.blocks.values() for row in block]

    @cached_property
    def reading(self) -> Tokenized:
        """:attr:`rows` as the model reads them."""
        return self.read(self.rows)

    def read(self, rows: list[Row]) -> Tokenized:
        """Some rows as the model reads them."""
        return tokenize(self.checkpoint, TEMPLATE, Pool(rows), self.folder / "weights")

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
    def pool_gradients(self) -> np.ndarray:
        """Of :attr:`rows`."""
        found = [self.gradients(rows, f"{name}gradients") for name, rows in self.blocks.items()]
        return np.concatenate([stored[:] for stored in found])

    def source(self, rows: list[Row]) -> Source:
        """What the product's signals are read from, the development examples included."""
        reading = self.read(rows)
        return Source(
            rows=rows,
            tokenized=reading,
            extraction=EXTRACTION,
            key={"max_tokens": MAX_TOKENS},
            targets=self.parts.examples,
            tokenized_by=lambda _: reading,
            trainer=TRAINER,
            say=lambda message: print(message, flush=True),
            gradients=lambda: self.pool_gradients,
        )

    def forward(self, name: str, signal: Any) -> np.ndarray:
        """A signal that forward passes give, of all rows."""
        about = {"signal": name, "max_tokens": MAX_TOKENS}
        found = [
            read_off(
                self.checkpoint.load(),
                signal,
                self.source(rows),
                self.folder / f"{block}{name}",
                about,
            )
            for block, rows in self.blocks.items()
        ]
        return np.concatenate(found)

    def built(self, name: str, signal: Any) -> Any:
        """A signal that more than passes over the pool give, of the first block's rows."""
        to = self.folder / name
        to.mkdir(parents=True, exist_ok=True)
        source = self.source(self.blocks[""])
        if not (to / "done").is_file():
            signal.build(to, source)
            (to / "done").touch()
        return signal.load(to, source)


def real(folder: Path) -> Real:
    """The study's parts under the checkpoint that ``SPICE_REAL_CHECKPOINT`` names."""
    named = os.environ.get("SPICE_REAL_CHECKPOINT", "checkpoints/smollm2-135m-instruct")
    checkpoint = Checkpoint(named, "float32")
    checkpoint.check("SPICE_REAL_CHECKPOINT")
    return Real(checkpoint, folder)
