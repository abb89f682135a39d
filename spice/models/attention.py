"""Attention as gradients want it: quick with narrow heads, and on a GPU the same each time.

torch's kernel for the CPU takes 1.6 times as long, forward and backward, for heads of 8 coordinates
as for heads of 16 (``experiments/performance/LOG.md``). Coordinates that are zero change no inner
product, so narrow heads are filled up with them.

A GPU's kernels add up the gradients of queries as they come, unless torch is told to refuse all
that does so; and then it refuses other layers of some models altogether. So it is told for
attention's own way back alone, where the forward pass is made once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

WIDTH = 16
NAME = "sdpa_prepared"
Attend = Callable[..., Tensor]  # query, key and value in, each b × heads × t × width


def prepare_attention(model: PreTrainedModel | nn.Module) -> None:
    """Let a model's attention, where it is torch's own, be as above."""
    model = cast("PreTrainedModel", model)  # or an adapter around one, which passes all on
    config: Any = model.config
    heads = getattr(config, "num_attention_heads", None)
    width = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else WIDTH)
    AttentionInterface.register(NAME, _prepared)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    wanted = width < WIDTH or torch.cuda.is_available()
    if wanted and config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


def _prepared(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    options["scaling"] = options.get("scaling") or query.shape[-1] ** -0.5

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return sdpa_attention_forward(module, query, key, value, mask, **options)[0]

    if query.device.type == "cpu":
        return _widened(attend, query, key, value), None
    if options.get("dropout"):  # what is made once more would be drawn anew
        return attend(query, key, value), None
    return repeatable(attend, query, key, value), None


def _widened(attend: Attend, *parts: Tensor) -> Tensor:
    width = parts[0].shape[-1]
    if width >= WIDTH:
        return attend(*parts)
    wide = (torch.nn.functional.pad(part, (0, WIDTH - width)) for part in parts)
    return attend(*wide)[..., :width]


def repeatable(attend: Attend, *parts: Tensor) -> Tensor:
    """``attend`` of query, key and value, whose gradients are the same bits each time.

    The parts and what comes of them are b × heads × t × width, or as ``attend`` has them.
    """
    if torch.is_grad_enabled() and any(part.requires_grad for part in parts):
        found: Tensor = _Again.apply(attend, *parts)
        return found
    return attend(*parts)


class _Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, attend: Attend, *parts: Tensor) -> Tensor:
        device = parts[0].device.type
        mixed = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        ctx.attend, ctx.device, (ctx.mixed, ctx.dtype) = attend, device, mixed
        ctx.save_for_backward(*parts)
        return attend(*parts)

    @staticmethod
    def backward(ctx: Any, *slope: Tensor) -> tuple[Tensor | None, ...]:
        parts = [part.detach().requires_grad_() for part in ctx.saved_tensors]
        as_before = torch.autocast(ctx.device, dtype=ctx.dtype, enabled=ctx.mixed)
        with torch.enable_grad(), as_before, _refusing_chance():
            return None, *torch.autograd.grad(ctx.attend(*parts), parts, slope)


@contextmanager
def _refusing_chance() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
