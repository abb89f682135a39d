"""Tokenised rows as padded batches, by length for reading and in seeded order for training."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from spice.data.rendering import Example
from spice.data.token_table import lengths

IDLE = -1  # the number of a micro-batch that is none
IGNORED = -100  # the label that torch's cross entropy leaves out

#: input_ids, attention_mask, labels: b × t; rows: the b positions in the pool
Batch = dict[str, Any]


def pad(examples: Sequence[Example], rows: Sequence[int], pad_id: int) -> Batch:
    """Right-pad ``examples[row]`` for each of ``rows`` to one b × t batch."""
    chosen = [examples[row] for row in rows]
    width = max(len(e.ids) for e in chosen)
    ids = torch.full((len(chosen), width), pad_id)
    labels = torch.full((len(chosen), width), IGNORED)
    mask = torch.zeros((len(chosen), width), dtype=torch.long)
    for i, e in enumerate(chosen):
        ids[i, : len(e.ids)] = torch.tensor(e.ids)
        for start, end in e.spans:
            labels[i, start:end] = ids[i, start:end]
        mask[i, : len(e.ids)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "rows": list(rows)}


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some of a batch's b × t, padded to the longest of these rows."""
    width = int(batch["attention_mask"][rows].sum(dim=1).max())
    return {
        name: part[rows, :width] if torch.is_tensor(part)
        else part[rows] if isinstance(part, list) else part
        for name, part in batch.items()
    }  # fmt: skip


def length_order(examples: Sequence[Example], eligible: Sequence[int]) -> np.ndarray:
    """The ``eligible`` rows (m), longest first: if memory runs out, it does so at once."""
    rows = np.asarray(eligible, dtype=np.int64)
    return rows[np.argsort(-lengths(examples)[rows], kind="stable")]


class PaddedBatches(Dataset):
    """Given batches of row positions, padded when asked for."""

    def __init__(
        self, examples: Sequence[Example], batches: Sequence[Sequence[int]], pad_id: int
    ) -> None:
        self.examples = examples
        self.batches = batches
        self.pad_id = pad_id

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch:
        return pad(self.examples, self.batches[number], self.pad_id)


class TrainingPlan:
    """The order in which fine-tuning sees its rows, fixed by the seed alone.

    ``epochs`` seeded permutations follow each other in one stream, which is cut into optimizer
    steps of ``batch_size`` rows and those into ``batches``, the micro-batches.
    """

    def __init__(
        self,
        rows: Sequence[int],
        *,
        epochs: int,
        max_steps: int | None,
        batch_size: int,
        micro_batch_size: int,
        seed: int,
    ) -> None:
        rng = np.random.default_rng(seed)
        stream = np.concatenate([rng.permutation(np.asarray(rows)) for _ in range(epochs)])
        steps = [stream[i : i + batch_size] for i in range(0, len(stream), batch_size)][:max_steps]
        self.steps = [[int(row) for row in step] for step in steps]
        self.accumulate = -(-batch_size // micro_batch_size)
        self.batches = [
            step[i : i + micro_batch_size]
            for step in self.steps
            for i in range(0, len(step), micro_batch_size)
        ]
        self.step_of = [
            number
            for number, step in enumerate(self.steps)
            for _ in range(0, len(step), micro_batch_size)
        ]


class Dealt(Sampler):
    """The numbers of one process's micro-batches: every ``size``-th of each step, from its rank on.

    All processes have equally many of each step, ``accumulate`` at most: a process that comes short
    gets :data:`IDLE` ones. They are yielded from ``start`` on, for a run that is resumed, under the
    whole plan's length, which Lightning counts up to.
    """

    def __init__(self, plan: TrainingPlan, rank: int = 0, size: int = 1) -> None:
        self.accumulate = -(-plan.accumulate // size)
        self.numbers: list[int] = []
        for _, group in itertools.groupby(range(len(plan.batches)), plan.step_of.__getitem__):
            of_step = list(group)
            mine = of_step[rank::size]
            self.numbers += [*mine, *[IDLE] * (-(-len(of_step) // size) - len(mine))]
        self.start = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers[self.start :])


class MicroBatches(PaddedBatches):
    """A plan's micro-batches, each with its ``number``; an idle one has a text and no rows."""

    def __getitem__(self, number: int) -> Batch:
        if number == IDLE:
            some = pad(self.examples, self.batches[0][:1], self.pad_id)
            return {**some, "rows": [], "number": IDLE}
        return {**super().__getitem__(number), "number": number}
