"""Ways to per-sample gradients of the LoRA factors B: a batch in, b × d out.

Each takes a model of its own, for some change it. All read the same loss, the mean over a row's
supervised tokens, and order the factors as the model does. Where a library offers several
interfaces, the one that works on a model and a loss that are given is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from spice.data.batches import IGNORED
from spice.gradients.collecting import factors
from spice.gradients.per_sample import per_sample_gradients
from spice.models.loss import response_nll

Way = Callable[[dict[str, Any]], torch.Tensor]
KINDS = ("lora_A", "lora_B")


def hooks(model: torch.nn.Module) -> Way:
    """Ours."""
    return partial(per_sample_gradients, model, reduction="mean")


def loop(model: torch.nn.Module) -> Way:
    """Row after row, each cut to its own length; gradients of the factors B alone."""
    return lambda batch: torch.stack(
        [torch.cat([g.flatten() for g in step(model, row, ("lora_B",))]) for row in _rows(batch)]
    )


def vmapped(model: torch.nn.Module) -> Way:
    """torch.func: the gradient of one row's loss, mapped over the rows.

    Without an attention mask: rows are padded on the right, so no real token sees padding.
    """
    from torch.func import functional_call, grad, vmap

    wanted = {name: p.detach() for name, p in model.named_parameters() if "lora_B" in name}

    def loss(weights: dict, ids: torch.Tensor, labels: torch.Tensor, keep: int) -> torch.Tensor:
        options = {"use_cache": False, "logits_to_keep": keep}
        logits = functional_call(model, weights, (ids[None],), options).logits[0]
        target = labels[len(labels) - keep + 1 :]
        nll = torch.nn.functional.cross_entropy(
            logits[:-1], target, reduction="sum", ignore_index=IGNORED
        )
        return nll / (target != IGNORED).sum()

    def way(batch: dict[str, Any]) -> torch.Tensor:
        labels = batch["labels"]
        first = int((labels != IGNORED).any(dim=0).nonzero()[0])
        one = partial(loss, keep=labels.shape[1] - first + 1)  # as many logits as ours computes
        found = vmap(grad(one), in_dims=(None, 0, 0))(wanted, batch["input_ids"], labels)
        return torch.cat([found[name].flatten(1) for name in wanted], dim=1)

    return way


def opacus(model: torch.nn.Module) -> Way:
    """opacus: ``grad_sample`` of each parameter that learns; in training mode, without dropout."""
    from opacus.grad_sample import GradSampleModule

    wanted = _only_b(model)
    wrapped = GradSampleModule(model.train(), loss_reduction="sum", strict=False)

    def way(batch: dict[str, Any]) -> torch.Tensor:
        _loss(wrapped, batch).backward()
        found = torch.cat([p.grad_sample.flatten(1) for p in wanted], dim=1)
        wrapped.zero_grad(set_to_none=True)
        return found

    return way


def bergson(model: torch.nn.Module) -> Way:
    """bergson: its collector's hooks around our forward and backward pass."""
    from bergson.collector.gradient_collectors import StreamingGradientCollector

    wanted = _only_b(model)
    names = [f"{name}.default" for name, _ in factors(model)]
    collector = StreamingGradientCollector(
        model=model, target_modules=set(names), dtype=torch.float32
    )

    def way(batch: dict[str, Any]) -> torch.Tensor:
        with collector:
            _loss(model, batch).backward()
        found = torch.cat([collector.mod_grads[name] for name in names], dim=1)
        collector.mod_grads.clear()
        for p in wanted:
            p.grad = None
        return found

    return way


def step(
    model: torch.nn.Module, batch: dict[str, Any], kinds: tuple[str, ...] = KINDS
) -> list[torch.Tensor]:
    """A training step's forward and backward: the gradients of one loss, A's included."""
    wanted = [p for n, p in model.named_parameters() if any(kind in n for kind in kinds)]
    return list(torch.autograd.grad(_loss(model, batch), wanted))


WAYS: dict[str, Callable[[torch.nn.Module], Way]] = {
    "hooks (ours)": hooks,
    "one row at a time": loop,
    "torch.func, vmap(grad)": vmapped,
    "opacus": opacus,
    "bergson": bergson,
}


def _loss(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    nll, count = response_nll(model, batch)
    return (nll / count).sum()


def _only_b(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Let the factors B alone learn; they are returned."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_B" in name)
    return [p for p in model.parameters() if p.requires_grad]


def _rows(batch: dict[str, Any]) -> list[dict[str, torch.Tensor]]:
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    kept = ("input_ids", "attention_mask", "labels")
    return [{k: batch[k][i : i + 1, :n] for k in kept} for i, n in enumerate(lengths)]
