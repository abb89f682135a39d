"""Dropout that is drawn row by row, so that a row's does not depend on what it stands beside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

MODULUS = 2**63


class RowDropout(nn.Module):
    """As ``nn.Dropout``, but each row of b × t × h has draws of its own, padding none.

    ``number`` tells the layers apart. :func:`drawing` gives the rows.
    """

    def __init__(self, p: float, number: int) -> None:
        super().__init__()
        self.p = p
        self.number = number
        self.rows: list[tuple[int, int]] = []  # each row's seed and length
        self._draw: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Some of x, b × t × h, put to zero, the rest scaled up by as much."""
        if not self.training or self.p == 0:
            return x
        kept = torch.ones(x.shape, dtype=torch.bool, device=x.device)
        if x.ndim != 3 or len(x) != len(self.rows):  # rows cannot be told
            return x * kept.bernoulli_(1 - self.p) / (1 - self.p)
        if self._draw is None or self._draw.device != x.device:
            self._draw = torch.Generator(device=x.device)
        for row, (seed, length) in zip(kept, self.rows, strict=True):
            self._draw.manual_seed((seed + self.number * 1_000_003) % MODULUS)
            row[:length].bernoulli_(1 - self.p, generator=self._draw)
        return x * kept / (1 - self.p)


def drawn_by_row(model: nn.Module) -> None:
    """Put this kind of dropout in place of a model's own, wherever it is a module."""
    found = [(parent, name, child) for parent in model.modules()
             for name, child in parent.named_children() if type(child) is nn.Dropout]  # fmt: skip
    for number, (parent, name, child) in enumerate(found):
        drawn = RowDropout(child.p, number).train(child.training)
        if isinstance(parent, nn.ModuleDict):
            parent[name] = drawn
        else:
            setattr(parent, name, drawn)


def seed_of(*root: int) -> int:
    """A row's seed, from the numbers that tell it from all others."""
    return int(np.random.SeedSequence(root).generate_state(1, np.uint64)[0] % MODULUS)


def drawing(model: nn.Module, seeds: Sequence[int], lengths: Sequence[int]) -> None:
    """The b rows that come next: each one's seed, and its length without padding."""
    rows = list(zip(seeds, lengths, strict=True))
    for module in model.modules():
        if isinstance(module, RowDropout):
            module.rows = rows
