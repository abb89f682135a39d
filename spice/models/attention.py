"""Attention as gradients want it: quick with narrow heads, and on a GPU the same each time.

torch's kernel for the CPU takes 1.6 times as long, forward and backward, for heads of 8 coordinates
as for heads of 16 (``experiments/performance/LOG.md``). Coordinates that are zero change no inner
product, so narrow heads are filled up with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from spice.models.repeatable import Attend

WIDTH = 16
NAME = "sdpa_prepared"


def prepare_attention(model: PreTrainedModel | nn.Module) -> None:
    """Let a model's attention, where it is torch's own, be as above."""
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

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
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    from spice.models.repeatable import repeatable

    options["scaling"] = options.get("scaling") or query.shape[-1] ** -0.5

    def attend(*parts: Tensor) -> Tensor:
        return sdpa_attention_forward(module, *parts, mask, **options)[0]

    if query.device.type == "cpu":
        return _widened(attend, query, key, value), None
    if options.get("dropout"):  # what is made once more would be drawn anew
        return attend(query, key, value), None
    return repeatable(attend, query, key, value), None


def _widened(attend: Attend, *parts: Tensor) -> Tensor:
    from torch.nn.functional import pad

    width = parts[0].shape[-1]
    if width >= WIDTH:
        return attend(*parts)
    return attend(*(pad(part, (0, WIDTH - width)) for part in parts))[..., :width]
