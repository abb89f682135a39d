"""Layers whose adapters change nothing are passed by without them, to the same gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spice.data.batches import pad
from spice.data.rendering import Example
from spice.gradients import collecting
from spice.gradients.per_sample import per_sample_gradients
from spice.models.autocast import multiply_in_bfloat16
from spice.models.checkpoint import Checkpoint
from spice.models.lora import Lora
from spice.models.recompute import recompute_long_batches

FAMILIES = ["llama", "qwen2", "qwen2_moe"]


@pytest.fixture(scope="module")
def batch() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rows = [Example(rng.integers(4, 90, n).tolist(), n // 3) for n in (7, 21, 12, 3)]
    return pad(rows, range(4), 0)


@pytest.fixture
def attach(make_checkpoint: Callable[..., Path]) -> Callable[..., Any]:
    def made(family: str, dtype: str = "float32", alpha: int = 8) -> Any:
        lora = Lora(r=4, alpha=alpha, dropout=0.3, targets="all-linear")
        return lora.attach(Checkpoint(str(make_checkpoint(family)), dtype).load(), 3).eval()

    return made


def both(model: Any, batch: dict[str, Any], monkeypatch: Any) -> tuple[Any, Any]:
    """The gradients as they are read, and by way of all adapters."""
    shortened = per_sample_gradients(model, batch, "mean")
    with monkeypatch.context() as patch:
        patch.setattr(collecting, "_changes_nothing", lambda *_: False)
        return shortened, per_sample_gradients(model, batch, "mean")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_short_way_gives_the_same_bits(
    attach: Any, batch: Any, monkeypatch: Any, family: str, dtype: str
) -> None:
    shortened, whole = both(attach(family, dtype), batch, monkeypatch)
    assert shortened.any()
    assert torch.equal(shortened, whole)  # the scale is 2: it rounds nothing


@pytest.mark.parametrize("prepared", ["plain", "autocast", "recomputed"])
def test_the_short_way_gives_the_same_at_any_scale(
    attach: Any, batch: Any, monkeypatch: Any, prepared: str
) -> None:
    model = attach("llama", alpha=11)
    if prepared == "autocast":
        multiply_in_bfloat16(model)
    if prepared == "recomputed":
        recompute_long_batches(model, 1)
    shortened, whole = both(model, batch, monkeypatch)
    near = 0.02 if prepared == "autocast" else 1e-6
    assert (shortened - whole).norm() < near * whole.norm()


def test_two_adapters_that_are_zero(attach: Any, batch: Any, monkeypatch: Any) -> None:
    from peft import LoraConfig

    model = attach("llama")
    more = LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "up_proj"], lora_dropout=0.5)
    model.add_adapter("more", more)
    model.base_model.set_adapter(["default", "more"])
    shortened, whole = both(model.eval(), batch, monkeypatch)
    assert shortened.shape[1] > per_sample_gradients(attach("llama"), batch, "mean").shape[1]
    assert (shortened - whole).norm() < 1e-6 * whole.norm()


def test_no_adapter_that_is_zero_is_multiplied_with(attach: Any, batch: Any) -> None:
    model, seen = attach("llama"), []
    outputs = [module for name, module in model.named_modules() if name.endswith("lora_B.default")]
    for module in outputs:
        module.register_forward_hook(lambda module, *_: seen.append(module))
    torch.nn.init.ones_(outputs[3].weight)
    per_sample_gradients(model, batch, "mean")
    assert seen == [outputs[3]]
    assert not any("forward" in vars(module) for module in model.modules())
    model(**{name: batch[name] for name in ("input_ids", "attention_mask")})
    assert len(seen) == 1 + len(outputs)


def test_other_kinds_of_adapters_are_gone_through(
    make_checkpoint: Callable[..., Path], batch: Any
) -> None:
    """With DoRA a weight is scaled anew even where B is zero, and its gradient is another."""
    from peft import LoraConfig, get_peft_model

    base = Checkpoint(str(make_checkpoint("llama")), "float32").load()
    config = LoraConfig(r=4, target_modules=["q_proj"], use_dora=True)
    model = get_peft_model(base, config).eval()
    layers = [module for module in model.modules() if hasattr(module, "lora_B")]
    zero = {layer.lora_B["default"] for layer in layers}
    assert len(layers) == len(zero) > 0
    assert not any(collecting._changes_nothing(layer, zero) for layer in layers)
