"""A frozen base in 4 or 8 bits, as bitsandbytes keeps it.

Only storage is bitsandbytes'; :mod:`spice.models.whole_weights` multiplies. No torch here, so that
a wrong option is told at once.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from spice.errors import InputError

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel

Quantization = Literal["4bit", "8bit"]
EXTRA = "pip install 'spice-selection[quantization]'"
BLOCK, BLOCKS = 64, 256  # weights that share a scale of one byte; scales that share one of four


def config(quantization: Quantization, dtype: str) -> BitsAndBytesConfig:
    """What transformers has to be told; the head and embeddings stay in ``dtype``."""
    import torch
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def check(quantization: Quantization | None, role: str) -> None:
    """Refuse what cannot be computed here; one small layer is tried on the device.

    Raises:
        InputError: bitsandbytes is not installed, or does nothing on this machine.
    """
    if quantization is None:
        return
    said = f"{role}.quantization={quantization}: "
    if find_spec("bitsandbytes") is None:
        raise InputError(f"{said}needs bitsandbytes, which is not installed: {EXTRA}")
    try:
        _try(quantization)
    except Exception as error:
        told = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{said}bitsandbytes cannot compute it on this machine ({told}); leave it out, or go "
            "where there is a GPU"
        ) from error


def silence() -> None:
    """Keep bitsandbytes' advice on faster kernels, which are not used here, out of a run's log."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def _try(quantization: Quantization) -> None:
    silence()
    import torch
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    if quantization == "4bit":
        layer: Any = Linear4bit(BLOCK, BLOCK, bias=False, quant_type="nf4")
    else:
        layer = Linear8bitLt(BLOCK, BLOCK, bias=False, has_fp16_weights=False)
    layer.load_state_dict({"weight": torch.eye(BLOCK)})
    layer.to("cuda" if torch.cuda.is_available() else "cpu")
    from spice.models.whole_weights import whole

    if not torch.allclose(whole(layer, torch.float32).cpu(), torch.eye(BLOCK), atol=1e-2):
        raise RuntimeError("a weight does not come back")


def weight_bytes(model: PreTrainedModel, quantization: Quantization | None) -> int:
    """What the weights take, told from a model without them; what they share counts once."""
    found = {id(p): p.numel() * p.element_size() for p in model.parameters()}
    for layer in _to_quantise(model) if quantization else ():
        out, wide = layer.weight.shape
        found[id(layer.weight)] = _quantised_bytes(out, wide, quantization)
    return sum(found.values())


def _to_quantise(model: PreTrainedModel) -> list[Any]:
    from torch import nn

    head: Any = model.get_output_embeddings()
    return [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]


def _quantised_bytes(out: int, wide: int, quantization: Quantization | None) -> int:
    if quantization == "8bit":
        return out * wide + 4 * out
    scales = -(-out * wide // BLOCK)
    return -(-out * wide // 2) + scales + 4 * -(-scales // BLOCKS)
