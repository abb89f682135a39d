"""Attention's way back on a GPU, in one order.

A GPU's kernels add up the gradients of queries as they come, unless torch is told to refuse all
that does so; and then it refuses other layers of some models altogether. So it is told for
attention's own way back alone, where the forward pass is made once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

Attend = Callable[..., Tensor]  # query, key and value in


def repeatable(attend: Attend, *parts: Tensor) -> Tensor:
    """``attend`` of query, key and value, whose gradients are the same bits each time."""
    if torch.is_grad_enabled() and any(part.requires_grad for part in parts):
        return cast("Tensor", _Again.apply(attend, *parts))
    return attend(*parts)


class _Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, attend: Attend, *parts: Tensor) -> Tensor:
        ctx.attend = attend
        ctx.save_for_backward(*parts)
        return attend(*parts)

    @staticmethod
    def backward(ctx: Any, *slope: Tensor) -> tuple[Tensor | None, ...]:
        parts = [part.detach().requires_grad_() for part in ctx.saved_tensors]
        with torch.enable_grad(), _refusing_chance():
            return None, *torch.autograd.grad(ctx.attend(*parts), parts, slope)


@contextmanager
def _refusing_chance() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
