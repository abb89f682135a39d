"""A few rows, measured: what a model's passes cost per token, in time and in memory."""

from __future__ import annotations

import gc
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
from spice.models import memory
from spice.models.device import device, moved
from spice.models.memory import Footprint, Kind, footprint

if TYPE_CHECKING:
    import torch

    from spice.data.batches import Batch
    from spice.models.lora import Lora

AT = (1.0, 0.5, 0.1)  # quantiles of the lengths: one batch of rows alike is read at each
ROWS = 7  # at most, in each of them
REPEATS, LONG = 3, 2.0  # times that each is measured, unless so many seconds have gone
OPTIMIZED = 4 * 4  # bytes of a trained weight's gradient, made and summed, and AdamW's two moments
BEAT = 0.002  # seconds between two looks at the memory in use


@dataclass(frozen=True)
class Speed:
    """What a probe found, ``seconds`` being per token, padding included, of texts of some widths.

    ``takes`` is what passes need beside the ``base``, which is in use before them, on the device.
    ``size`` is the number of coordinates that come out: of a gradient, or of an adapter.
    """

    widths: list[int]
    seconds: list[float]
    load: float
    base: int
    takes: Footprint
    size: int

    @classmethod
    def read(cls, found: dict[str, Any]) -> Speed:
        """One that was kept."""
        return cls(**{**found, "takes": Footprint(**found["takes"])})

    def limit(self, work: Work, limit: BatchLimit, free: int, where: str) -> BatchLimit:
        """What the work's batches hold where so many bytes are free."""
        kind: Kind = "passing" if work.kind == "forward" else "learning"
        return memory.chosen(work.within(limit), self.takes, free, where, kind)

    def time(self, work: Work, limit: BatchLimit) -> float:
        """Seconds of all batches, the model's loading included."""
        rows, width = work.batches(limit).T
        per_token = np.interp(width, self.widths, self.seconds)
        return self.load + work.times * float((rows * width * per_token).sum())

    def memory(self, work: Work, limit: BatchLimit) -> int:
        """The most bytes in use, an optimizer's among them."""
        batches = work.batches(limit)
        tokens = int(batches.prod(axis=1).max(initial=0))
        rows = int(batches[:, 0].max(initial=0))
        kept = not limit.recomputed or tokens <= limit.recomputed
        learning = self.takes.kept if kept else self.takes.recomputed
        per_token = self.takes.passing if work.kind == "forward" else learning
        optimizer = OPTIMIZED * self.size if work.kind == "training" else 0
        return self.base + optimizer + self.takes.peak(rows, tokens, per_token)


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
    gc.collect()  # a model of a probe before
    start = time.perf_counter()
    model: Any = work.tokenized.checkpoint.whole()
    model.to(where)
    step, takes, size = _pass(work.kind, model, extraction, lora, precision, where)
    load = time.perf_counter() - start
    there = [moved(batch, where) for batch in batches]
    step(there[-1])  # the first pass is always slower
    base = Memory(where).now()
    found = [quickest(partial(_synchronous, step, batch, where)) for batch in there]
    tokens = [batch["input_ids"].numel() for batch in there]
    per_token = {
        batch["input_ids"].shape[1]: seconds / count
        for batch, seconds, count in zip(there, found, tokens, strict=True)
    }
    widths = sorted(per_token)
    return asdict(Speed(widths, [per_token[w] for w in widths], load, base, takes(), size))


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
) -> tuple[Callable[[Batch], object], Callable[[], Footprint], int]:
    """One pass over a batch, what passes need, and how many coordinates they are about."""
    import torch

    from spice.gradients import per_sample
    from spice.models.dropout import drawn_by_row

    if kind == "forward":

        def read(batch: Batch) -> object:
            with torch.no_grad():
                return per_sample.response_loss(model, batch, "sum")

        return read, partial(footprint, model), 1
    if kind == "gradients":
        adapted, sketch = extraction.attach(model).to(where).eval(), extraction.sketch()
        size = per_sample.dimension(adapted, sketch)
        needs = partial(footprint, adapted, per_sample.row_bytes(adapted, sketch))
        read_all = partial(per_sample.per_sample_gradients, adapted)
        return lambda b: read_all(b, extraction.reduction, sketch).cpu(), needs, size
    tuned = lora.attach(model, 0).to(where).train()
    drawn_by_row(tuned)
    weights = [p for p in tuned.parameters() if p.requires_grad]

    autocast = partial(_autocast, where, precision)

    def train(batch: Batch) -> object:
        with autocast():
            loss = per_sample.response_loss(tuned, batch, "mean")
        return torch.autograd.grad(loss, weights)

    return train, autocast()(partial(footprint, tuned)), sum(p.numel() for p in weights)


def _autocast(where: str, precision: str) -> torch.autocast:
    import torch

    return torch.autocast(where, torch.bfloat16, enabled=precision != "32-true")
