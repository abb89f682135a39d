"""How large a batch may be here: chosen by the memory that is free, and less once it runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from spice.data.batch_limit import BatchLimit
from spice.data.batches import Batch, rows_of
from spice.errors import InputError
from spice.messages import say
from spice.models import memory
from spice.models.memory import Kind
from spice.models.recompute import recompute_long_batches

STAGE = "memory"
T = TypeVar("T")


class Room:
    """What a model's batches may hold here.

    A model that is ``learning`` is gone back through, one that is ``writing`` keeps what it has
    read, one that is ``passing`` does neither. ``row`` are bytes that each row needs beside.
    """

    def __init__(self, model: Any, limit: BatchLimit, kind: Kind, row: int = 0) -> None:
        self.model = model
        where = next(model.parameters()).device.type
        found = memory.footprint(model, row)
        self.limit = memory.chosen(limit, found, memory.free(where), where, kind)
        self._recompute(self.limit.recomputed)

    def _recompute(self, tokens: int | None) -> None:
        self.recomputed = tokens
        if tokens is not None:
            recompute_long_batches(self.model, tokens)

    def say(self) -> None:
        """Tell the sizes."""
        again = (
            f", activations computed twice beyond {self.recomputed:,}" if self.recomputed else ""
        )
        told = f"batches of up to {self.limit.rows} rows and {self.limit.tokens:,} tokens{again}"
        say(STAGE, told)

    def parts(self, act: Callable[[Batch], T], batch: Batch) -> list[T]:
        """What ``act`` makes of a batch's b × t, in parts of neighbours that have room."""
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        return self.of_lengths(lambda rows: act(rows_of(batch, rows)), lengths)

    def of_lengths(self, act: Callable[[slice], T], lengths: Sequence[int]) -> list[T]:
        """The same of rows of so many tokens: ``act`` is given which of them to take.

        Where memory runs out, half as many tokens are tried, and are the limit from then on.

        Raises:
            InputError: one row alone has no room.
        """
        found: list[T] = []
        waiting = self.limit.cut(lengths)[::-1]
        while waiting:
            rows = waiting.pop()
            if done := self._tried(act, rows):
                found += done
                continue
            self._halve(max(lengths[rows]), rows.stop - rows.start)
            start = rows.start
            again = self.limit.cut(lengths[start:])
            waiting = [slice(start + c.start, start + c.stop) for c in reversed(again)]
        return found

    @staticmethod
    def _tried(act: Callable[[slice], T], rows: slice) -> list[T]:
        """What came of it, or nothing; all that a failure held is let go of."""
        try:
            return [act(rows)]
        except (RuntimeError, MemoryError) as error:
            if not memory.ran_out(error):
                raise
        gc.collect()
        _empty()
        return []

    def _halve(self, width: int, rows: int) -> None:
        """Half of what did not fit; of one row alone activations are computed twice."""
        tokens = rows * width
        if rows > 1:
            self.limit = BatchLimit(self.limit.rows, tokens // 2, self.limit.recomputed)
            say(STAGE, f"a batch of {tokens:,} tokens did not fit, going on with {tokens // 2:,}")
        elif self.recomputed is not None and self.recomputed >= tokens:
            self._recompute(tokens - 1)
            told = "did not fit, going on with activations computed twice"
            say(STAGE, f"a row of {tokens:,} tokens {told}")
        else:
            raise InputError(
                f"a row of {tokens:,} tokens does not fit the memory, even by itself and with "
                "activations computed twice; a lower template.max_tokens, dtype=bfloat16 of the "
                "model or the proxy, or more memory are the ways out"
            )


def _empty() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
