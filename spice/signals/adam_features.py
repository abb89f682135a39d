"""LESS's features of rows and examples at one checkpoint: the direction that Adam would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from spice.data.batches import length_order, pad
from spice.errors import InputError
from spice.gradients.collecting import factors
from spice.gradients.per_sample import FLOAT, dimension, per_sample_gradients, row_bytes
from spice.models.device import device, moved
from spice.models.room import Room
from spice.progress import progress

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from spice.data.batch_limit import BatchLimit
    from spice.data.rendering import Example
    from spice.distributed.per_rank import PerRank

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class AdamState:
    """Adam's moments over the gradient's coordinates, d each."""

    first: Tensor
    second: Tensor


def coordinates(model: PeftModel) -> list[str]:
    """The parameter behind each LoRA factor of a gradient, in the gradient's order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    weights: list[Any] = [module.weight for _, module in factors(model)]
    return [names[id(weight)] for weight in weights]


def load_state(path: Path, model: PeftModel) -> AdamState:
    """Put a checkpoint's weights into the model, and align its moments by parameter name."""
    state = load_file(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(_entry(state, name, parameter.shape, path))
    shapes = dict(model.named_parameters())
    first, second = (
        torch.cat([_entry(state, f"{name}.{moment}", shapes[name].shape, path).flatten()
                   for name in coordinates(model)])
        for moment in ("exp_avg", "exp_avg_sq")
    )  # fmt: skip
    return AdamState(first, second)


def _entry(state: dict[str, Tensor], name: str, shape: Any, path: Path) -> Tensor:
    if name not in state:
        raise InputError(f"{path}: no {name}; this checkpoint is of another adapter or optimizer")
    if state[name].shape != shape:
        raise InputError(f"{path}: {name} is {list(state[name].shape)}, not {list(shape)}")
    return state[name]


def adam_direction(gradients: Tensor, state: AdamState) -> Tensor:
    """Γ = m'/√(v' + ε) with m' = β₁m + (1 − β₁)g, v' = β₂v + (1 − β₂)g²; b × d.

    ε stands inside the root and nothing is corrected for bias, as in the authors' code.
    """
    first = BETA1 * state.first + (1 - BETA1) * gradients
    second = BETA2 * state.second + (1 - BETA2) * gradients**2
    return first / (second + EPSILON).sqrt()


def sketch(vectors: Tensor, size: int, seed: int) -> Tensor:
    """Project b × d to b × size: each coordinate is added to one of ``size`` with a random sign.

    Keeps inner products on average, with the spread of the published matrix of random signs over
    √size and without its d × size entries (Charikar et al. 2002). Up to ``size`` coordinates stay
    as they are.
    """
    d = vectors.shape[1]
    if d <= size:
        return vectors
    draw = torch.Generator().manual_seed(seed)
    places = torch.randint(0, size, (d,), generator=draw).to(vectors.device)
    signs = (torch.randint(0, 2, (d,), generator=draw) * 2 - 1).to(vectors)
    return torch.zeros(len(vectors), size).to(vectors).index_add_(1, places, vectors * signs)


def features_at(
    path: Path, adapted: PerRank[PeftModel], size: int, seed: int, reduction: str
) -> Features:
    """Those at the checkpoint in a file, which is put into the model of this process."""
    return Features(adapted(), load_state(path, adapted()), size, seed, reduction)


@dataclass(frozen=True)
class Features:
    """Projected features of unit length at one checkpoint; a zero gradient's feature is zero."""

    model: PeftModel
    state: AdamState
    size: int
    seed: int
    reduction: str

    def adam(self, batch: Any) -> Tensor:
        """Of rows to train on: Adam's direction, b × size."""
        device = batch["input_ids"].device
        state = AdamState(self.state.first.to(device), self.state.second.to(device))
        gradients = self._gradients(batch)
        moved = adam_direction(gradients, state) * gradients.any(dim=1, keepdim=True)
        return self._unit(moved)

    def plain(
        self, examples: Sequence[Example], limit: BatchLimit, pad_id: int, trainer: dict[str, Any]
    ) -> Tensor:
        """Of examples to aim at: the gradient as it is, m × size."""
        where = device(trainer.get("accelerator", "cpu"))
        self.model.to(where).eval()
        order = length_order(examples, range(len(examples)))
        room = Room(self.model, limit, "learning", self.row_bytes())

        lengths = [len(examples[row].ids) for row in order]

        def read(part: slice) -> Tensor:
            batch = pad(examples, [int(row) for row in order[part]], pad_id)
            found = self._unit(self._gradients(moved(batch, where)))
            tell(len(found), sum(lengths[part]))
            return found

        with progress("", len(lengths), "examples", sum(lengths)) as tell:
            found = room.of_lengths(read, lengths)
        return torch.cat(found)[torch.from_numpy(order.argsort())]

    def row_bytes(self) -> int:
        """What a row takes: its gradient, and what Adam makes of it."""
        return row_bytes(self.model) + 4 * FLOAT * dimension(self.model)

    def _gradients(self, batch: Any) -> Tensor:
        return per_sample_gradients(self.model, batch, self.reduction)

    def _unit(self, vectors: Tensor) -> Tensor:
        small = sketch(vectors, self.size, self.seed)
        return small / small.norm(dim=1, keepdim=True).clamp(min=1e-12)


def cosines(model: Any, batch: Any, features: PerRank[Features], aimed: Tensor) -> Tensor:
    """Of b rows' features with those of m examples, b × m."""
    return features().adam(batch) @ aimed.T.to(batch["input_ids"].device)
