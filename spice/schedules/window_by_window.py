"""Selection window by window, the proxy learning from what it has chosen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from spice.data.batch_limit import BatchLimit
from spice.data.batches import length_order, pad
from spice.data.rendering import Example
from spice.distributed import team
from spice.gradients.extraction import Extraction
from spice.gradients.gram import gram, in_their_span
from spice.gradients.per_sample import per_sample_gradients
from spice.models.loss import NonFiniteLossError
from spice.records import Selection
from spice.schedules.learning_proxy import LearningProxy, go_through
from spice.schedules.windows import Windows, joined, shares
from spice.selectors.base import GradientSelector
from spice.storage.seals import publish_sealed, read_sealed

if TYPE_CHECKING:
    from peft import PeftModel

    from spice.distributed.per_rank import PerRank

    Window = dict[str, Any]  # number, and batches: the window's rows, padded


class PaddedWindows(IterableDataset):
    """Windows from ``start`` on, as padded batches of rows alike in length."""

    def __init__(
        self,
        windows: Sequence[Sequence[int]],
        examples: Sequence[Example],
        limit: BatchLimit,
        pad_id: int,
        start: int,
    ) -> None:
        self.windows = windows
        self.examples = examples
        self.limit = limit
        self.pad_id = pad_id
        self.start = start

    def __len__(self) -> int:
        return len(self.windows) - self.start

    def __iter__(self) -> Iterator[Window]:
        for number in range(self.start, len(self.windows)):
            rows = length_order(self.examples, self.windows[number]).tolist()
            parts = self.limit.cut([len(self.examples[row].ids) for row in rows])
            batches = [pad(self.examples, rows[part], self.pad_id) for part in parts]
            yield {"number": number, "batches": batches}


class WindowByWindow(LearningProxy):
    """Chooses from each window, and every so often trains the proxy on what was chosen.

    A window's choice is written to ``folder`` as soon as it is made. The proxy changes only at a
    refresh, and its adapter and optimizer are written then: a run that was killed takes up the
    last refresh, reads the choices made since, and goes on as if nothing had happened.
    """

    def __init__(
        self,
        model: PeftModel,
        selector: GradientSelector,
        extraction: Extraction,
        options: Windows,
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
            limit=extraction.batch_limit,
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
        progress = self.resume(self._goes_on)
        self.start = progress["reached"] if progress else 0

    def _goes_on(self, progress: dict[str, Any]) -> bool:
        """Whether every choice before the last refresh is still there."""
        return all(self._read(number) for number in range(progress["reached"]))

    def train_dataloader(self) -> DataLoader:
        """What is left to be chosen from."""
        limit = self.extraction.batch_limit
        left = PaddedWindows(self.windows, self.examples, limit, self.pad_id, self.start)
        return DataLoader(left, batch_size=None)

    def training_step(self, window: Window, batch_idx: int) -> None:
        """One window, and the refresh behind it if one is due."""
        number = window["number"]
        rows = self.windows[number]
        part = self._read(number)
        if part is None:
            part = self._choose(window)
            if team.is_first():
                self._write(number, part)
        self.waiting += [rows[i] for i in part.indices]
        due = (number + 1) % self.options.refresh_every == 0 or number + 1 == len(self.windows)
        if due:
            if self.options.train_proxy and self.waiting:
                self.learn(self.waiting, number, f"the refresh behind window {number + 1}")
            self.waiting = []
            self.save({"reached": number + 1})
        self.tell()

    def selection(self) -> Selection:
        """All windows' choices as one."""
        parts = [(rows, self._read(number)) for number, rows in enumerate(self.windows)]
        return joined([(rows, part) for rows, part in parts if part], len(self.examples))

    def _choose(self, window: Window) -> Selection:
        rows = self.windows[window["number"]]
        gradients = self._gradients(window)
        if not team.is_first():
            return team.gather(None)[0]
        if not np.isfinite(gradients).all(axis=1).any():
            raise NonFiniteLossError(f"window {window['number'] + 1}", list(rows))
        names = [self.ids[row] for row in rows]
        count = self.shares[window["number"]]
        chosen = self.selector.select_gradients(
            gradients, names, count, range(len(rows)), certified=False
        )
        return team.gather(chosen)[0]

    def _gradients(self, window: Window) -> np.ndarray:
        """The window's gradients, or fewer coordinates where no form of F could tell."""
        rows, batches = self.windows[window["number"]], window["batches"]
        place = {row: i for i, row in enumerate(row for batch in batches for row in batch["rows"])}
        reduction = self.extraction.reduction
        if self.sketch or not self.selector.of_products:
            read = partial(per_sample_gradients, reduction=reduction, sketch=self.sketch)
            act = partial(read, self.model)
            mine = {i: torch.cat(self.room.parts(act, batches[i])).cpu()
                    for i in team.share(range(len(batches)))}  # fmt: skip
            found = {i: part for others in team.gather(mine) for i, part in others.items()}
            whole = torch.cat([found[i] for i in range(len(batches))]).numpy()
            return whole[[place[row] for row in rows]]
        # Equal rows are told by their text: a product's rounding depends on its place.
        first: dict[Any, int] = {}
        texts = [(tuple(self.examples[row].spans), *self.examples[row].ids) for row in rows]
        copies = [first.setdefault(text, place[row]) for text, row in zip(texts, rows, strict=True)]
        assert self.room  # which says from where on activations are computed twice
        return in_their_span(gram(self.model, batches, reduction))[copies]

    def _path(self, number: int) -> Path:
        return self.folder / f"window-{number:06}.json"

    def _write(self, number: int, part: Selection) -> None:
        record = dataclasses.asdict(part)
        arrays = ("rows", "squared_norms")
        record["trace"] |= {name: part.trace[name].tolist() for name in arrays}
        publish_sealed(
            self._path(number), lambda path: path.write_text(json.dumps(record), encoding="utf-8")
        )

    def _read(self, number: int) -> Selection | None:
        kept = read_sealed(self._path(number))
        if kept is None:
            return None
        record = json.loads(kept)
        for name in ("rows", "squared_norms"):
            record["trace"][name] = np.array(record["trace"][name])
        return Selection(**record)


def choose(made: PerRank[WindowByWindow], trainer: dict[str, Any], here: None) -> Selection | None:
    """Go through what is left of the windows; all their choices as one selection, of the run."""
    module = made()
    if module.start < len(module.windows):
        go_through(module, trainer, module.start, len(module.windows), "windows")
    return module.selection() if team.is_first() else None
