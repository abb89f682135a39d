"""What a backward pass hands over at each LoRA factor: δ = ∂L/∂y of a linear map y = W x, and x.

Where a factor B is zero its adapter changes nothing: y = W x + s B A x is W x. Such a layer is
passed by without it, and ∂L/∂B = s Σ_t δ_t (A x_t)ᵀ is made of ∂L/∂y and s A x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora import LoraLayer

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn

    Met = Callable[[nn.Linear, Tensor, Tensor], None]  # a factor, its δ and its x


def factors(model: PeftModel) -> list[tuple[str, nn.Linear]]:
    """The LoRA factors whose gradients make up g, in the model's order: those of active adapters.

    A factor A whose partner B is zero is left out: ∂L/∂A = Bᵀ(…) is identically zero there, as it
    is for every freshly attached adapter, so these coordinates change no inner product.
    """
    pairs: list[tuple[str, Any, Any]] = [
        (name, layer.lora_A[adapter], layer.lora_B[adapter])
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
        for adapter in _active(layer)
    ]
    found: list[tuple[str, nn.Linear]] = []
    for (name, a, b), moved in zip(pairs, _moved([b for *_, b in pairs]), strict=True):
        found += [(f"{name}.lora_A", a)] if moved else []
        found.append((f"{name}.lora_B", b))
    return found


def _moved(factors: list[nn.Linear]) -> list[bool]:
    """Which are not zero; a GPU is asked once for all."""
    if not factors:
        return []
    counts = [torch.count_nonzero(factor.weight) for factor in factors]
    found: list[bool] = torch.stack([c.to(counts[0].device) for c in counts]).bool().tolist()
    return found


class _Collect(torch.autograd.Function):
    """The identity on y = W x that hands ∂L/∂y and x to ``add`` on the way back, and keeps neither.

    What is saved goes through autograd's own saving, so checkpointing may make x anew. All meet at
    one ``anchor``: going back to it passes every one of them, and goes no further down than they
    are, where going back to the embedded tokens would.
    """

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, x: Tensor, anchor: Tensor, add: Callable[[Tensor, Tensor], None]
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.add = add
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, None, None, None]:
        ctx.add(delta, *ctx.saved_tensors)
        return delta, None, None, None


@contextmanager
def collecting(
    model: PeftModel, named: Sequence[tuple[str, nn.Linear]], add: Met
) -> Iterator[Tensor]:
    """Let a backward pass hand over δ and x of each of its factors; yields where it goes back to.

    δ and x are as the model hands them on: b × t × out and b × t × in, or their rows one behind
    the other (:func:`spice.gradients.per_sample.outer_products`). The anchor that is yielded is a
    scalar. It is no weight, so that no weight's own gradient is made. Nothing goes back through a
    factor B that is zero, for Bᵀδ is.

    Raises:
        RuntimeError: a factor was passed by: a gradient must not be zero because nobody looked.
    """
    missed: dict[nn.Module, str] = {module: name for name, module in named}
    anchor = torch.zeros((), device=named[0][1].weight.device, requires_grad=True)
    zero = _zero(missed)

    def met(module: nn.Linear, delta: Tensor, x: Tensor) -> None:
        missed.pop(module, None)
        add(module, delta, x)

    def collect(module: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        y = output.detach() if module in zero else output
        return _Collect.apply(y, inputs[0], anchor, partial(met, module))

    handles = [module.register_forward_hook(collect) for module in missed]
    shortened = [layer for layer in model.modules() if _changes_nothing(layer, zero)]
    try:
        for layer in shortened:
            layer.forward = partial(_past, layer, anchor, met)
        yield anchor
        if missed:
            raise RuntimeError(f"the backward pass did not come by {next(iter(missed.values()))}")
    finally:
        for layer in shortened:
            del layer.forward
        for handle in handles:
            handle.remove()


def _zero(named: dict[nn.Module, str]) -> set[nn.Module]:
    """The factors B of :func:`factors` that are zero, whose A is none of them."""
    names = set(named.values())
    return {b for b, name in named.items() if name[-1] == "B" and f"{name[:-1]}A" not in names}


def _active(layer: Any) -> list[str]:
    return [adapter for adapter in layer.lora_B if adapter in layer.active_adapters]


def _changes_nothing(layer: Any, zero: set[nn.Module]) -> bool:
    """Whether a module is a layer W x + Σ s B A x, all of whose factors B are zero."""
    if not isinstance(layer, LoraLayer) or "forward" in vars(layer) or layer.disable_adapters:
        return False
    active = _active(layer)
    plain = not layer.merged and not set(active) & set(layer.lora_variant)
    return bool(active) and plain and all(layer.lora_B[each] in zero for each in active)


def _past(layer: Any, anchor: Tensor, met: Met, x: Tensor, *rest: Any, **named: Any) -> Tensor:
    """W x; on the way back ``met`` hears of each B, of ∂L/∂y and of s A x."""
    y = layer.base_layer(x, *rest, **named)
    for adapter in _active(layer):
        a, b = layer.lora_A[adapter], layer.lora_B[adapter]
        with torch.no_grad():
            inner = a(layer.lora_dropout[adapter](x.to(a.weight.dtype)))
            inner = inner.float() * layer.scaling[adapter]
        y = _Collect.apply(y, inner, anchor, partial(met, b))
    return y
