"""The loss of responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from spice.data.batches import IGNORED, Batch
from spice.errors import InputError
from spice.models.head import token_nll

if TYPE_CHECKING:
    from torch import Tensor


def response_nll(model: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each row's answers, summed over their tokens.

    Returns ``nll`` (b, nats, float32 at least) and ``count`` (b supervised tokens). Logits are
    made of supervised positions only, and in pieces (:mod:`spice.models.head`).
    """
    labels = batch["labels"]
    target = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED).flatten()
    [places] = (target != IGNORED).nonzero(as_tuple=True)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    found = token_nll(model, inputs, places, target[places])
    nll = found.new_zeros(len(target)).index_copy(0, places, found).view_as(labels)
    return nll.sum(dim=1), (target != IGNORED).view_as(labels).sum(dim=1)


class NonFiniteLossError(InputError):
    """A training must stop: ``where`` it was, and the positions in the pool of its ``rows``."""

    def __init__(self, where: str, rows: list[int]) -> None:
        self.where = where
        self.rows = rows
        super().__init__(self.told([str(row) for row in rows]))

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process may have come upon it."""
        return type(self), (self.where, self.rows)

    def told(self, names: list[str]) -> str:
        """The message, with names for the rows."""
        few = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
        return (
            f"the loss of {self.where} is not finite (rows {few}); nothing of this training "
            "is kept. A lower learning rate, or float32 in place of half precision, is the usual "
            "way out; else look at these rows"
        )


def check_finite(nll: Tensor, batch: Batch, where: str) -> None:
    """Look at the losses of b rows before anything is made of them; ``nll`` b.

    Raises:
        NonFiniteLossError: one of them is NaN or infinite.
    """
    finite = torch.isfinite(nll.detach())
    if not finite.all():
        bad = [row for row, good in zip(batch["rows"], finite.tolist(), strict=True) if not good]
        raise NonFiniteLossError(where, bad)
