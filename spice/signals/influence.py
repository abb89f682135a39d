"""LESS's gradient features: what a step on each row would do to examples that are aimed at.

Three things come together (arXiv 2402.04333): a short warm-up whose every epoch leaves a checkpoint
and its Adam state; the direction that Adam would take for each row at each checkpoint; and the
plain gradients of the examples there. Both sides go through one random projection.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from spice.data.rendering import eligible_rows
from spice.errors import InputError
from spice.gradients import work
from spice.models.lora import Lora
from spice.models.recompute import recompute_long_batches
from spice.signals.base import Signal
from spice.signals.experience import drawn_rows
from spice.storage.coding import FLOAT32
from spice.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from torch import Tensor

    from spice.data.budget import Budget
    from spice.data.rendering import Example
    from spice.gradients.extraction import Extraction
    from spice.gradients.work import Work
    from spice.signals.source import Source

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Influence(Signal):
    """Σ_i η̄_i · mean over a subtask's examples v of cos(Γ_i(z), ∇ℓ_i(v)), n × subtasks.

    i runs over the warm-up's epochs, η̄_i is the mean learning rate of epoch i, scaled to Σ = 1.
    ``share`` of the rows is warmed up on with ``lora`` and ``recipe``; features are projected to
    ``projection`` coordinates. ``seed`` draws the rows, the adapter and the projection.
    """

    share: float
    lora: Lora
    recipe: Recipe
    projection: int
    seed: int
    aims: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"selector.warmup_share={self.share}: must be in (0, 1]")
        if self.projection < 1:
            raise InputError(f"selector.projection={self.projection}: must be at least 1")

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """All its options, and how a row's loss is put together."""
        options = dataclasses.asdict(self)
        return {"signal": "influence", "reduction": extraction.reduction, **options}

    def build(self, folder: Path, source: Source) -> None:
        """Warm up, read both sides at every checkpoint, and write the table."""
        from spice.gradients.passes import Pass, fill, open_store

        tokenized, extraction = source.tokenized, source.extraction
        rows = eligible_rows(tokenized.examples)
        encoded = zip(source.targets, tokenized.renderer.encode(source.targets), strict=True)
        pairs = [(target.source, example) for target, example in encoded if example.supervised]
        subtasks, aims = [name for name, _ in pairs], [example for _, example in pairs]
        if not aims:
            raise InputError("none of the validation examples fits the proxy's context")
        model = self.lora.attach(tokenized.checkpoint.load(), self.seed)
        recompute_long_batches(model, extraction.recompute_tokens)
        rates = self._warm_up(model, source, rows, folder)
        names = sorted(set(subtasks))
        membership = np.array([[s == name for name in names] for s in subtasks], dtype=np.float64)
        membership /= membership.sum(axis=0)
        total = np.zeros((len(tokenized.examples), len(names)))
        for epoch, rate in enumerate(rates):
            state = load_state(folder / f"epoch-{epoch}.safetensors", model)
            read = Features(model, state, self.projection, self.seed, extraction.reduction)
            aimed = read.plain(aims, extraction.budget, tokenized.pad_id, source.trainer)
            store = open_store(
                folder / f"cosines-{epoch}", tokenized.examples, rows, source.ids,
                source.key, extraction.shard_rows, FLOAT32, len(aims),
            )  # fmt: skip
            source.say(f"checkpoint {epoch + 1} of {len(rates)}")
            fill(
                store,
                Pass(model, partial(_cosines, features=read, aimed=aimed)),
                tokenized.examples,
                budget=extraction.budget,
                pad_id=tokenized.pad_id,
                trainer=source.trainer,
                say=source.say,
            )
            total += rate * store.read().astype(np.float64) @ membership
        np.save(folder / "influence.npy", total)
        (folder / "subtasks.json").write_text(json.dumps(names))
        for path in (*folder.glob("epoch-*"), *folder.glob("cosines-*"), folder / "adapter"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def work(self, source: Source) -> list[Work]:
        """The warm-up, then the gradients of both sides at each of its checkpoints."""
        tokenized, epochs = source.tokenized, self.recipe.epochs
        targets = tokenized.renderer.encode(source.targets)
        return [
            work.training(tokenized, self.recipe, self.share * len(source.rows)),
            work.gradients(tokenized, tokenized.examples, epochs),
            work.gradients(tokenized, targets, epochs),
        ]

    def load(self, folder: Path, source: Source) -> np.ndarray:
        """The table as a structured array: one named column per subtask."""
        values = np.load(folder / "influence.npy", allow_pickle=False)
        names = json.loads((folder / "subtasks.json").read_text())
        return np.rec.fromarrays(values.T, names=names) if len(names) else values

    def _warm_up(
        self, model: PeftModel, source: Source, rows: Sequence[int], folder: Path
    ) -> list[float]:
        """Train on a share of the rows; each epoch's mean learning rate, scaled to Σ = 1."""
        from spice.training.epochs import EpochKeeper
        from spice.training.finetune import finetune, learning_rates

        drawn = drawn_rows(source.ids, rows, self.share, self.seed)
        ends = epoch_ends(len(drawn), self.recipe)
        if not (folder / f"epoch-{len(ends) - 1}.safetensors").is_file():
            source.say(f"warming up on {len(drawn)} rows, {self.recipe.epochs} epochs")
            keeper, trainer = EpochKeeper(folder, ends), source.trainer
            finetune(
                model,
                self.recipe,
                source.tokenized.examples,
                drawn,
                folder=folder,
                pad_id=source.tokenized.pad_id,
                seed=self.seed,
                trainer={
                    **trainer,
                    "callbacks": [*trainer.get("callbacks", []), keeper],
                    "logger": False,
                },
            )
        rates = learning_rates(self.recipe, ends[-1])
        means = [float(np.mean(rates[a:b])) for a, b in zip([0, *ends], ends, strict=False)]
        return [mean / sum(means) for mean in means]


def _cosines(model: Any, batch: Any, features: Features, aimed: Tensor) -> Tensor:
    return features.adam(batch) @ aimed.T


def epoch_ends(rows: int, recipe: Recipe) -> list[int]:
    """The optimizer step that ends each epoch; a step may hold the end of one and more."""
    ends = [math.ceil(e * rows / recipe.batch_size) for e in range(1, recipe.epochs + 1)]
    return sorted({end for end in ends if recipe.max_steps is None or end <= recipe.max_steps})


@dataclass(frozen=True)
class AdamState:
    """Adam's moments over the gradient's coordinates, d each."""

    first: torch.Tensor
    second: torch.Tensor


def coordinates(model: PeftModel) -> list[str]:
    """The parameter behind each LoRA factor of a gradient, in the gradient's order."""
    from spice.gradients.per_sample import factors

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    weights: list[Any] = [module.weight for _, module in factors(model)]
    return [names[id(weight)] for weight in weights]


def load_state(path: Path, model: PeftModel) -> AdamState:
    """Put a checkpoint's weights into the model, and align its moments by parameter name."""
    import torch
    from safetensors.torch import load_file

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
    import torch

    d = vectors.shape[1]
    if d <= size:
        return vectors
    draw = torch.Generator().manual_seed(seed)
    places = torch.randint(0, size, (d,), generator=draw).to(vectors.device)
    signs = (torch.randint(0, 2, (d,), generator=draw) * 2 - 1).to(vectors)
    return torch.zeros(len(vectors), size).to(vectors).index_add_(1, places, vectors * signs)


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
        self, examples: Sequence[Example], budget: Budget, pad_id: int, trainer: dict[str, Any]
    ) -> Tensor:
        """Of examples to aim at: the gradient as it is, m × size."""
        import torch

        from spice.data.batches import length_order, pad
        from spice.models.device import device

        where = device(trainer.get("accelerator", "cpu"))
        self.model.to(where).eval()
        order = length_order(examples, range(len(examples)))
        found = []
        for part in budget.cut([len(examples[row].ids) for row in order]):
            batch = pad(examples, [int(row) for row in order[part]], pad_id)
            moved = {k: v.to(where) if torch.is_tensor(v) else v for k, v in batch.items()}
            found.append(self._unit(self._gradients(moved)))
        return torch.cat(found)[torch.from_numpy(order.argsort())]

    def _gradients(self, batch: Any) -> Tensor:
        from spice.gradients.per_sample import per_sample_gradients

        return per_sample_gradients(self.model, batch, self.reduction)

    def _unit(self, vectors: Tensor) -> Tensor:
        small = sketch(vectors, self.size, self.seed)
        return small / small.norm(dim=1, keepdim=True).clamp(min=1e-12)
