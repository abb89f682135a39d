"""Per-sample LoRA gradients: time, memory and agreement of each way, beside a training step.

Adapters are fresh (B = 0), as selection finds them: all per-sample ways leave out the factors A,
whose gradients are zero; the training step computes them all the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from experiments.performance.gradient_ways import KINDS, WAYS, Way, step
from experiments.performance.timing import forget_peak, in_process, medians, peak_memory
from spice.data.batches import length_order, pad
from spice.data.rendering import Example
from spice.gradients.per_sample import dimension
from spice.models.lora import Lora

ROWS, VOCABULARY, LONGEST = 32, 4096, 400
MODELS = ((64, 2), (256, 4))  # width and layers
BATCH_SIZES = (1, 8)
STEP, OURS = "training step", next(iter(WAYS))
CLOSE = 1e-4  # relative, of a row's gradient


def compare(repeats: int, models: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    """Times and agreement in one process, and each way's memory in a process of its own."""
    found = in_process(measure, repeats, models)
    width, layers = models[-1]
    names = [STEP, *(name for name in WAYS if name not in found["absent"])]
    peaks = {name: in_process(peak, name, width, layers, BATCH_SIZES[-1]) for name in names}
    return {**found, "peaks": peaks}


def measure(repeats: int, models: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    """Seconds of each way, in turns, and how far its gradients are from ours."""
    warnings.simplefilter("ignore")  # peers' advice
    examples, found = pool(np.random.default_rng(0)), []
    absent: dict[str, str] = {}
    for width, layers in models:
        made = make(width, layers, absent)
        model = llama(width, layers)
        for size in BATCH_SIZES:
            batches = batches_of(examples, size)
            ours = [made[OURS](batch) for batch in batches]
            apart = {name: distance(way, batches, ours) for name, way in made.items()}
            ways = {STEP: partial(each, partial(step, model), batches)}
            ways |= {name: partial(each, way, batches) for name, way in made.items()}
            found.append(
                {
                    "title": title(model, size),
                    "seconds": medians(ways, repeats),
                    "apart": apart,
                    "step apart": step_distance(model, batches, ours),
                }
            )
    return {"sizes": found, "absent": absent}


def make(width: int, layers: int, absent: dict[str, str]) -> dict[str, Way]:
    """Each way on a model of its own; libraries that are not there go to ``absent``."""
    made = {}
    for name, prepare in WAYS.items():
        try:
            made[name] = prepare(llama(width, layers))
        except ImportError as error:
            absent[name] = str(error)
    return made


def peak(name: str, width: int, layers: int, size: int) -> int:
    """The most bytes that a pass over all rows adds to the libraries and the model."""
    warnings.simplefilter("ignore")
    examples = pool(np.random.default_rng(0))
    model = llama(width, layers)
    way = partial(step, model) if name == STEP else WAYS[name](model)
    batches = batches_of(examples, size)
    way(batches_of(examples[:1], 1)[0])  # what is loaded at first use is no part of it
    start = forget_peak()
    each(way, batches)
    return peak_memory() - start


def distance(way: Way, batches: list[dict], ours: list[torch.Tensor]) -> float:
    """The largest ‖g − g'‖ / ‖g‖ of any row; refused where it is not close."""
    found = max(
        float(((way(batch) - g).norm(dim=1) / g.norm(dim=1)).max())
        for batch, g in zip(batches, ours, strict=True)
    )
    assert found <= CLOSE, f"gradients differ from ours by {found:.1e}"
    return found


def step_distance(model: torch.nn.Module, batches: list[dict], ours: list[torch.Tensor]) -> float:
    """How far the training step's gradient of B is from the sum of ours over the rows."""
    sums = [g.sum(dim=0) for g in ours]
    steps = [torch.cat([g.flatten() for g in step(model, b, KINDS[1:])]) for b in batches]
    return max(float((a - b).norm() / b.norm()) for a, b in zip(steps, sums, strict=True))


def pool(rng: np.random.Generator) -> list[Example]:
    """Lengths as instruction pools have them: a median of some 90 tokens and a long tail."""
    lengths = np.clip(np.exp(rng.normal(4.5, 0.6, ROWS)), 16, LONGEST).astype(int)
    return [Example(rng.integers(0, VOCABULARY, n).tolist(), n // 3) for n in lengths]


def batches_of(examples: list[Example], size: int) -> list[dict]:
    """Padded batches, the longest rows first."""
    order = length_order(examples, range(len(examples))).tolist()
    return [pad(examples, order[i : i + size], 0) for i in range(0, len(order), size)]


def llama(width: int, layers: int) -> torch.nn.Module:
    """The same weights every time."""
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


def title(model: torch.nn.Module, size: int) -> str:
    """What a table is headed by."""
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    return f"{parameters:.1f} M parameters, d = {dimension(model):,}, batches of {size}"


def each(way: Callable[[dict], object], batches: list[dict]) -> None:
    """One pass."""
    for batch in batches:
        way(batch)
