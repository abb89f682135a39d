"""Where tensors are computed."""

from __future__ import annotations


def device(accelerator: str) -> str:
    """The torch device behind Lightning's ``trainer.accelerator``."""
    import torch

    if accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available():
        return "cuda"
    return "cpu"
