"""Where tensors are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from spice.data.batches import Batch


def device(accelerator: str) -> str:
    """The torch device behind Lightning's ``trainer.accelerator``."""
    import torch

    if accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available():
        return "cuda"
    return "cpu"


def memory(accelerator: str) -> int:
    """Bytes that the device behind it has in all, in use or not."""
    if device(accelerator) == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(0).total_memory)
    import psutil

    return int(psutil.virtual_memory().total)


def moved(batch: Batch, where: str | torch.device) -> Batch:
    """A batch whose tensors, b × t each, are on a device."""
    import torch

    return {k: v.to(where) if torch.is_tensor(v) else v for k, v in batch.items()}
