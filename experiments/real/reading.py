"""What the study reads off the model: tokens and gradients of the pool and of the examples."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.real import pool
from spice.models import Checkpoint, Lora
from spice.records import Row
from spice.rendering import Example, Renderer, Template
from spice.selectors.kernel import Rows
from spice.signals import gradients
from spice.signals.extraction import Extraction

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
    def renderer(self) -> Renderer:
        """With the model's own chat template."""
        template = Template(
            mode="chat",
            system="{content}",
            user="{content}",
            answer="",
            earlier_answer="{content}",
            max_tokens=MAX_TOKENS,
        )
        return Renderer(self.checkpoint.tokenizer(), template, self.checkpoint.context())

    @cached_property
    def examples(self) -> list[Example]:
        """Of :attr:`rows`."""
        return self.renderer.encode(self.rows)

    @property
    def pad_id(self) -> int:
        """What batches are filled up with."""
        return int(self.renderer.tokenizer.pad_token_id)

    def gradients(self, rows: list[Row], name: str) -> Rows:
        """Per-sample gradients n × d of some rows, made where they are missing."""
        examples, ids = self.renderer.encode(rows), [row.id for row in rows]
        about = {"signal": name, "max_tokens": MAX_TOKENS, **EXTRACTION.fingerprint()}
        to = self.folder / name
        done = to / "done"
        if not done.is_file():
            gradients.extract(
                self.checkpoint.load(),
                EXTRACTION,
                examples,
                ids,
                folder=to,
                metadata=about,
                pad_id=self.pad_id,
                trainer=TRAINER,
                say=lambda message: print(f"{name}: {message}", flush=True),
            )
            done.touch()
        return gradients.read(to, EXTRACTION, examples, ids, about)


def real(folder: Path) -> Real:
    """The study's parts under the checkpoint that ``SPICE_REAL_CHECKPOINT`` names."""
    named = os.environ.get("SPICE_REAL_CHECKPOINT", "checkpoints/smollm2-135m-instruct")
    checkpoint = Checkpoint(named, "float32")
    checkpoint.check("SPICE_REAL_CHECKPOINT")
    return Real(checkpoint, folder)
