"""A few rows, measured: what a model's passes cost per token, in time and in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from spice.data.batch_limit import BatchLimit
from spice.data.token_table import eligible_rows
from spice.gradients.extraction import Extraction
from spice.gradients.work import Work
from spice.models.device import device, moved

if TYPE_CHECKING:
    import torch

    from spice.data.batches import Batch
    from spice.models.lora import Lora

AT = (1.0, 0.5, 0.1)  # quantiles of the lengths: one batch of rows alike is read at each
ROWS = 7  # at most, in each of them
REPEATS, LONG = 3, 2.0  # times that each is measured, unless so many seconds have gone
BEAT = 0.002  # seconds between two looks at the memory in use


@dataclass(frozen=True)
class Speed:
    """What a probe found, ``seconds`` being per token, padding included, of texts of some widths.

    ``bytes`` is what passes need per token of a batch, ``base`` what is in use before them, on the
    device. ``size`` is the number of coordinates that come out: of a gradient, or of an adapter.
    """

    widths: list[int]
    seconds: list[float]
    load: float
    base: int
    bytes: float
    size: int

    def time(self, work: Work, limit: BatchLimit) -> float:
        """Seconds of all batches, the model's loading included."""
        rows, width = work.batches(limit).T
        per_token = np.interp(width, self.widths, self.seconds)
        return self.load + work.times * float((rows * width * per_token).sum())

    def memory(self, work: Work, limit: BatchLimit) -> int:
        """The most bytes in use."""
        tokens = int(work.batches(limit).prod(axis=1).max(initial=0))
        return round(self.base + self.bytes * tokens)


class Memory:
    """The most memory in use while the context is open: the device's, or the process's own."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.peak = 0

    def now(self) -> int:
        """Bytes in use."""
        if self.device == "cuda":
            import torch

            return torch.cuda.memory_allocated()
        import psutil

        return int(psutil.Process().memory_info().rss)

    def __enter__(self) -> Memory:
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._over.wait(BEAT):
            self.peak = max(self.peak, self.now())


def probe(
    work: Work, extraction: Extraction, lora: Lora, precision: str, accelerator: str
) -> dict[str, Any]:
    """Measure :class:`Speed` with batches of the longest, of middling and of short rows."""

    from spice.data.batches import pad  # keeps torch out of start-up

    where = device(accelerator)
    batches = [pad(work.tokenized.examples, rows, work.tokenized.pad_id)
               for rows in chosen(work, extraction.batch_limit)]  # fmt: skip
    start = time.perf_counter()
    model: Any = work.tokenized.checkpoint.load()
    model.to(where)
    step, size = _pass(work.kind, model, extraction, lora, precision, where)
    load = time.perf_counter() - start
    there = [moved(batch, where) for batch in batches]
    step(there[-1])  # the first pass is always slower
    memory = Memory(where)
    base, found = memory.now(), []
    for batch in there:
        with memory:
            found.append(quickest(partial(_synchronous, step, batch, where)))
    tokens = [batch["input_ids"].numel() for batch in there]
    per_token = {
        batch["input_ids"].shape[1]: seconds / count
        for batch, seconds, count in zip(there, found, tokens, strict=True)
    }
    widths = sorted(per_token)
    rise = max(memory.peak - base, 0) / max(tokens)
    return asdict(Speed(widths, [per_token[w] for w in widths], load, base, rise, size))


def quickest(act: Callable[[], object]) -> float:
    """Seconds of an act: the least of a few, which is what other processes leave true."""
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < LONG:
        start = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _synchronous(step: Callable[[Batch], object], batch: Batch, where: str) -> None:
    import torch

    step(batch)
    if where == "cuda":
        torch.cuda.synchronize()


def chosen(work: Work, limit: BatchLimit) -> list[list[int]]:
    """The rows of the probe's batches, longest first."""
    examples = work.tokenized.examples
    usable = eligible_rows(examples)
    order = sorted(usable, key=lambda row: len(examples[row].ids))
    count = min(ROWS, work.rows or limit.rows, len(order))
    ends = [max(round(at * len(order)), count) for at in AT]
    return [order[end - count : end] for end in dict.fromkeys(ends)]


def _pass(
    kind: str, model: Any, extraction: Extraction, lora: Lora, precision: str, where: str
) -> tuple[Callable[[Batch], object], int]:
    """One pass over a batch, and how many coordinates it is about."""
    import torch

    from spice.gradients.per_sample import dimension, per_sample_gradients
    from spice.models.loss import response_nll

    if kind == "forward":

        def read(batch: Batch) -> object:
            with torch.no_grad():
                return response_nll(model, batch)

        return read, 1
    if kind == "gradients":
        adapted, sketch = extraction.attach(model).to(where).eval(), extraction.sketch()
        size = dimension(adapted, sketch)
        return lambda b: per_sample_gradients(adapted, b, extraction.reduction, sketch).cpu(), size
    tuned = lora.attach(model, 0).to(where).train()
    weights = [p for p in tuned.parameters() if p.requires_grad]

    def train(batch: Batch) -> object:
        with torch.autocast(where, _autocast(precision), enabled=precision != "32-true"):
            nll, count = response_nll(tuned, batch)
        return torch.autograd.grad(nll.sum() / count.sum(), weights)

    return train, sum(p.numel() for p in weights)


def _autocast(precision: str) -> torch.dtype:
    import torch

    return torch.float16 if precision == "16-mixed" else torch.bfloat16
