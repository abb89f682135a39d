"""The model tuned on what each method chose, and its loss on rows that are in no pool."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from experiments.real.reading import TRAINER, Real
from spice.data.batches import length_order, pad
from spice.distributed.per_rank import PerRank
from spice.models.lora import Lora
from spice.models.loss import response_nll
from spice.training.recipe import Recipe

LORA = Lora(16, 32, 0.0, "all-linear")
#: a hundred rows twice; all rows once, in five times as many steps
RECIPE = Recipe(
    epochs=2,
    max_steps=125,
    learning_rate=5e-4,
    decay="cosine",
    warmup_ratio=0.1,
    weight_decay=0.0,
    clip=1.0,
    batch_size=8,
    micro_batch_size=8,
    checkpoint_every=25,
)
PRECISION = "bf16-mixed"  # of tuning and scoring alike


class Loss(NamedTuple):
    """The loss of a row's response, nats a token, of the model tuned on a method's choice."""

    method: str
    seed: int
    id: str
    source: str
    loss: float


def losses(study: Real, method: str, seed: int, chosen: Sequence[str]) -> list[Loss]:
    """Tune on the rows with these ids, or on none, and read the loss of those held out."""
    from spice.training.finetune import finetune

    made = PerRank(partial(LORA.put_on, study.checkpoint, seed))
    place = {row.id: i for i, row in enumerate(study.rows)}
    rows = [place[row_id] for row_id in sorted(chosen)]
    folder = study.folder / "tuning" / f"{method} {seed}"
    if rows:
        finetune(
            made,
            RECIPE,
            study.reading.examples,
            rows,
            folder=folder,
            pad_id=study.reading.pad_id,
            seed=seed,
            trainer={**TRAINER, "precision": PRECISION, "logger": False},
        )
        shutil.rmtree(folder, ignore_errors=True)
        made().save_pretrained(adapter(study, method, seed))  # for the benchmarks
    return held_out(study, made(), method, seed)


def adapter(study: Real, method: str, seed: int) -> Path:
    """Where the tuned LoRA factors are kept."""
    return study.folder / "adapters" / f"{method} {seed}"


def held_out(study: Real, model: torch.nn.Module, method: str, seed: int) -> list[Loss]:
    """The mean loss over each response's tokens."""
    rows = study.parts.held_out
    reading = study.read(rows)
    order = [int(i) for i in length_order(reading.examples, range(len(rows)))]
    found = []
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(order), 8):
            batch = pad(reading.examples, order[start : start + 8], reading.pad_id)
            nll, count = response_nll(model, batch)
            for i, total, tokens in zip(batch["rows"], nll, count, strict=True):
                if tokens:
                    loss = float(total / tokens)
                    found.append(Loss(method, seed, rows[i].id, rows[i].source, loss))
    return found


def load(path: Path) -> list[Loss]:
    """The losses that are on record."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Loss(line["method"], int(line["seed"]), line["id"], line["source"], float(line["loss"]))
            for line in csv.DictReader(file)
        ]


def save(found: Sequence[Loss], path: Path) -> None:
    """Put them on record."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Loss._fields)
        writer.writerows((*row[:4], f"{row.loss:.5f}") for row in sorted(found))
