"""Selection window by window, the proxy learning from what it has chosen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from spice.batches import pad
from spice.learning import LearningProxy, go_through
from spice.records import Selection
from spice.rendering import Example
from spice.selectors.spice import Spice
from spice.signals.extraction import Extraction
from spice.signals.gradients import per_sample_gradients, rescale
from spice.signals.store import publish
from spice.windows import Pools, joined, shares

if TYPE_CHECKING:
    from peft import PeftModel

    Window = dict[str, Any]  # number, and batches: the window's rows, padded


class Windows(IterableDataset):
    """Windows from ``start`` on, as padded batches."""

    def __init__(
        self,
        windows: Sequence[Sequence[int]],
        examples: Sequence[Example],
        batch_size: int,
        pad_id: int,
        start: int,
    ) -> None:
        self.windows = windows
        self.examples = examples
        self.batch_size = batch_size
        self.pad_id = pad_id
        self.start = start

    def __len__(self) -> int:
        return len(self.windows) - self.start

    def __iter__(self) -> Iterator[Window]:
        for number in range(self.start, len(self.windows)):
            rows = self.windows[number]
            parts = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
            batches = [pad(self.examples, part, self.pad_id) for part in parts]
            yield {"number": number, "batches": batches}


class PoolSchedule(LearningProxy):
    """Chooses from each window, and every so often trains the proxy on what was chosen.

    A window's choice is written to ``folder`` as soon as it is made. The proxy changes only at a
    refresh, and its adapter and optimizer are written then: a run that was killed takes up the
    last refresh, reads the choices made since, and goes on as if nothing had happened.
    """

    def __init__(
        self,
        model: PeftModel,
        selector: Spice,
        extraction: Extraction,
        options: Pools,
        examples: Sequence[Example],
        ids: Sequence[str],
        windows: Sequence[Sequence[int]],
        k: int,
        *,
        folder: Path,
        pad_id: int,
        seed: int,
    ) -> None:
        super().__init__(
            model,
            examples,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            batch_size=extraction.batch_size,
            folder=folder,
            pad_id=pad_id,
            seed=seed,
        )
        self.selector = selector
        self.extraction = extraction
        self.sketch = extraction.sketch()
        self.options = options
        self.ids = ids
        self.windows = windows
        self.shares = shares(windows, k)
        self.waiting: list[int] = []  # chosen since the last refresh
        progress = self.resume()
        self.start = progress["reached"] if progress else 0

    def train_dataloader(self) -> DataLoader:
        """What is left to be chosen from."""
        left = Windows(self.windows, self.examples, self.batch_size, self.pad_id, self.start)
        return DataLoader(left, batch_size=None)

    def training_step(self, window: Window, batch_idx: int) -> None:
        """One window, and the refresh behind it if one is due."""
        number = window["number"]
        rows = self.windows[number]
        part = self._read(number)
        if part is None:
            part = self._choose(window)
            self._write(number, part)
        self.waiting += [rows[i] for i in part.indices]
        due = (number + 1) % self.options.refresh_every == 0 or number + 1 == len(self.windows)
        if due:
            if self.options.train_proxy and self.waiting:
                self.learn(self.waiting, number)
            self.waiting = []
            self.save({"reached": number + 1})

    def selection(self) -> Selection:
        """All windows' choices as one."""
        parts = [(rows, self._read(number)) for number, rows in enumerate(self.windows)]
        return joined([(rows, part) for rows, part in parts if part], len(self.examples))

    def _choose(self, window: Window) -> Selection:
        rows = self.windows[window["number"]]
        read = [
            per_sample_gradients(self.model, batch, self.extraction.reduction, self.sketch).cpu()
            for batch in window["batches"]
        ]
        gradients = rescale(
            torch.cat(read).numpy(), self.extraction.scale, self.extraction.clip_quantile
        )
        names = [self.ids[row] for row in rows]
        count = self.shares[window["number"]]
        return self.selector.select_gradients(
            gradients, names, count, range(len(rows)), certified=False
        )

    def _path(self, number: int) -> Path:
        return self.folder / f"window-{number:06}.json"

    def _write(self, number: int, part: Selection) -> None:
        record = dataclasses.asdict(part)
        arrays = ("rows", "squared_norms")
        record["trace"] |= {name: part.trace[name].tolist() for name in arrays}
        publish(self._path(number), lambda path: path.write_text(json.dumps(record)))

    def _read(self, number: int) -> Selection | None:
        if not self._path(number).is_file():
            return None
        record = json.loads(self._path(number).read_text())
        for name in ("rows", "squared_norms"):
            record["trace"][name] = np.array(record["trace"][name])
        return Selection(**record)


def choose(module: PoolSchedule, trainer: dict[str, Any]) -> Selection:
    """Go through what is left of the windows; all their choices as one selection."""
    if module.start < len(module.windows):
        go_through(module, trainer)
    return module.selection()
