"""A batch's loss and its gradient, made part by part where the whole has no room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spice.models.dropout import drawing
from spice.models.loss import response_nll

if TYPE_CHECKING:
    from spice.data.batches import Batch
    from spice.models.room import Room


def learnt_nll(
    model: nn.Module, batch: Batch, room: Room, seeds: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The b rows' losses and counts as :func:`response_nll` has them, and the losses' sum.

    The sum is gone back from like any other, but only to the trainable weights: their gradients
    are made here, part by part. Row by row, ``seeds`` (b) decide what dropout draws
    (:mod:`spice.models.dropout`), however the batch is split.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    slopes = [torch.zeros_like(weight) for weight in weights]

    def learn(part: Batch) -> tuple[Tensor, Tensor]:
        drawing(model, part["seeds"], part["attention_mask"].sum(dim=1).tolist())
        nll, count = response_nll(model, part)
        made = torch.autograd.grad(nll.sum(), weights, allow_unused=True)
        for slope, more in zip(slopes, made, strict=True):
            if more is not None:
                slope += more
        return nll.detach(), count

    nll, count = zip(*room.parts(learn, {**batch, "seeds": list(seeds)}), strict=True)
    total = torch.cat(nll)
    return total, torch.cat(count), _known(total.sum(), weights, slopes)


def _known(value: Tensor, weights: Sequence[Tensor], slopes: Sequence[Tensor]) -> Tensor:
    """``value``, a scalar, which hands ``slopes`` to ``weights`` on the way back."""
    found: Tensor = _Known.apply(value, *slopes, *weights)
    return found


class _Known(torch.autograd.Function):
    """A scalar whose derivatives are there already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *rest: Tensor) -> Tensor:
        ctx.slopes = rest[: len(rest) // 2]
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        slopes = tuple((given[0] * slope).to(slope.dtype) for slope in ctx.slopes)
        return (None, *(None for _ in slopes), *slopes)
