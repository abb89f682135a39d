"""A step's loss and its gradient, made part by part, by one process or by several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spice.distributed import team
from spice.models.dropout import drawing
from spice.models.loss import response_nll

if TYPE_CHECKING:
    from spice.data.batches import Batch
    from spice.models.room import Room


class Slopes:
    """The gradient of a step's loss with respect to a model's trainable weights, as it adds up.

    The parts are float32's, their sum is float64's: to float32's digits it does not matter how a
    step is cut, or who has which part. Adam's first steps hang on the sign of numbers near zero.
    """

    def __init__(self, model: nn.Module) -> None:
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.sums: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """Go back from a part's loss, a scalar."""
        self._begin()
        made = torch.autograd.grad(loss, self.weights, allow_unused=True)
        for total, more in zip(self.sums, made, strict=True):
            if more is not None:
                total += more

    def hand_over(self, tokens: int) -> None:
        """Give each weight what all processes have found, a token's share, and begin anew."""
        self._begin()
        team.add_up(self.sums)
        for weight, total in zip(self.weights, self.sums, strict=True):
            weight.grad = (total / tokens).to(weight.dtype)
        self.sums = []

    def _begin(self) -> None:
        if not self.sums:
            self.sums = [torch.zeros_like(weight, dtype=torch.float64) for weight in self.weights]


def learnt_nll(
    model: nn.Module, batch: Batch, room: Room, seeds: Sequence[int], slopes: Slopes
) -> tuple[Tensor, Tensor]:
    """The b rows' losses and counts, as :func:`response_nll` has them; ``slopes`` get the gradient.

    Row by row, ``seeds`` (b) decide what dropout draws (:mod:`spice.models.dropout`), however the
    batch is split.
    """

    def learn(part: Batch) -> tuple[Tensor, Tensor]:
        drawing(model, part["seeds"], part["attention_mask"].sum(dim=1).tolist())
        nll, count = response_nll(model, part)
        slopes.add(nll.sum())
        return nll.detach(), count

    nll, count = zip(*room.parts(learn, {**batch, "seeds": list(seeds)}), strict=True)
    return torch.cat(nll), torch.cat(count)
