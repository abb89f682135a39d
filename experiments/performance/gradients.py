"""Per-sample LoRA gradients: by hooks, one row at a time, and beside a plain training step.

Adapters are fresh (B = 0), as selection finds them: both per-sample ways leave out the factors A,
whose gradients are zero; the training step computes them all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from experiments.performance.timing import medians
from spice.batches import length_order, pad, response_nll
from spice.models import Lora
from spice.rendering import Example
from spice.signals.gradients import dimension, per_sample_gradients

ROWS, VOCABULARY = 32, 4096


def measure(repeats: int) -> list[dict[str, Any]]:
    """Seconds of each way, for two models and two sizes of batch."""
    examples, found = pool(np.random.default_rng(0)), []
    for width, layers in ((64, 2), (256, 4)):
        model = llama(width, layers)
        size = sum(p.numel() for p in model.parameters()) / 1e6
        for batch_size in (1, 8):
            order = length_order(examples, range(ROWS)).tolist()
            cut = [order[i : i + batch_size] for i in range(0, ROWS, batch_size)]
            batches = [pad(examples, rows, 0) for rows in cut]
            ones = [pad(examples, [row], 0) for row in order]
            ways = {
                "training step": partial(each, step, model, batches),
                "per-sample gradients by hooks": partial(each, hooks, model, batches),
                "torch.func, vmap(grad)": partial(each, vmapped, model, batches),
                "one row at a time": partial(each, partial(step, only_b=True), model, ones),
            }
            title = f"{size:.1f} M parameters, d = {dimension(model):,}, batches of {batch_size}"
            found.append({"title": title, "seconds": medians(ways, repeats)})
    return found


def pool(rng: np.random.Generator) -> list[Example]:
    """Lengths as instruction pools have them: a median of some 90 tokens and a long tail."""
    lengths = np.clip(np.exp(rng.normal(4.5, 0.6, ROWS)), 16, 400).astype(int)
    return [Example(rng.integers(0, VOCABULARY, n).tolist(), n // 3) for n in lengths]


def llama(width: int, layers: int) -> torch.nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    lora = Lora(r=16, alpha=32, dropout=0.0, targets="all-linear")
    return lora.attach(LlamaForCausalLM(config), 0).eval()


def each(way: Callable, model: torch.nn.Module, batches: list[dict]) -> None:
    for batch in batches:
        way(model, batch)


def hooks(model: torch.nn.Module, batch: dict) -> torch.Tensor:
    return per_sample_gradients(model, batch, "mean")


def vmapped(model: torch.nn.Module, batch: dict) -> dict[str, torch.Tensor]:
    """torch.func: the gradient of one row's loss, mapped over the rows.

    Without an attention mask: rows are padded on the right, so no real token sees padding.
    """
    from torch.func import functional_call, grad, vmap

    wanted = {name: p.detach() for name, p in model.named_parameters() if "lora_B" in name}

    def loss(weights: dict, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = functional_call(model, weights, (ids[None],), {"use_cache": False}).logits[0]
        nll = torch.nn.functional.cross_entropy(logits[:-1], labels[1:], reduction="sum")
        return nll / (labels[1:] != -100).sum()

    return vmap(grad(loss), in_dims=(None, 0, 0))(wanted, batch["input_ids"], batch["labels"])


def step(model: torch.nn.Module, batch: dict, only_b: bool = False) -> list[torch.Tensor]:
    """Forward and backward, with the gradients of one loss."""
    kinds = ("lora_B",) if only_b else ("lora_A", "lora_B")
    wanted = [p for n, p in model.named_parameters() if any(kind in n for kind in kinds)]
    nll, count = response_nll(model, batch)
    return list(torch.autograd.grad((nll / count).sum(), wanted))
