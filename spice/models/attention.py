"""Attention with narrow heads on the CPU.

torch's kernel for the CPU takes 1.6 times as long, forward and backward, for heads of 8 coordinates
as for heads of 16 (``experiments/performance/LOG.md``). Coordinates that are zero change no inner
product, so narrow heads are filled up with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

WIDTH = 16
NAME = "sdpa_widened"


def widen_narrow_heads(model: PreTrainedModel | nn.Module) -> None:
    """Let a model's attention run on widened heads, if it has heads to widen."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    model = cast("PreTrainedModel", model)  # or an adapter around one, which passes all on
    config: Any = model.config
    heads = getattr(config, "num_attention_heads", None)
    width = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else WIDTH)
    AttentionInterface.register(NAME, _widened)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    if width < WIDTH and config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


def _widened(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    from torch.nn.functional import pad
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    width = query.shape[-1]
    more = WIDTH - width if query.device.type == "cpu" else 0
    options["scaling"] = options.get("scaling") or width**-0.5
    query, key, value = (pad(part, (0, more)) for part in (query, key, value))
    found, _ = sdpa_attention_forward(module, query, key, value, mask, **options)
    return found[..., :width], None
