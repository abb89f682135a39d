"""The loss of responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from spice.data.batches import IGNORED, Batch
from spice.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def response_nll(model: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each row's answers, summed over their tokens.

    Returns ``nll`` (b, nats, float32) and ``count`` (b supervised tokens). Logits are computed
    from the batch's first supervised position on only: with 150,000 words they are the largest
    thing in memory.
    """
    labels = batch["labels"]
    supervised = labels != IGNORED
    first = int(supervised.any(dim=0).nonzero()[0]) if supervised.any() else labels.shape[1] - 1
    keep = labels.shape[1] - max(first - 1, 0)
    logits = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        logits_to_keep=keep,
        use_cache=False,
    ).logits
    target = torch.nn.functional.pad(labels[:, -keep:][:, 1:], (0, 1), value=IGNORED)
    # One row of logits after the other in memory: with the words in between it takes far longer.
    token_nll = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), target.flatten(), reduction="none", ignore_index=IGNORED
    ).view_as(target)
    return token_nll.sum(dim=1), (target != IGNORED).sum(dim=1)


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
