"""How gradients are read and scaled; no torch here, so that a wrong option is told at once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from spice.errors import InputError, did_you_mean
from spice.models import Lora

REDUCTIONS = ("mean", "sum")
SCALES = ("raw", "unit", "clip")


@dataclass(frozen=True)
class Extraction:
    """What stands behind ``gradients=``.

    ``lora`` adapters are attached fresh from ``seed``, which is not the run's own, so that runs
    over several seeds share one store. ``reduction`` and ``lora`` make the store; ``scale`` is
    applied on reading it (see
    :func:`spice.signals.gradients.rescale`), ``batch_size`` and ``shard_rows`` change nothing.
    """

    lora: Lora
    reduction: str
    scale: str
    clip_quantile: float
    batch_size: int
    shard_rows: int
    seed: int

    def __post_init__(self) -> None:
        for name, known in (("reduction", REDUCTIONS), ("scale", SCALES)):
            if getattr(self, name) not in known:
                allowed = ", ".join(known)
                hint = did_you_mean(str(getattr(self, name)), known)
                raise InputError(f"gradients.{name}={getattr(self, name)}: one of {allowed}.{hint}")
        if not 0 < self.clip_quantile <= 1:
            raise InputError(f"gradients.clip_quantile={self.clip_quantile}: must be in (0, 1]")
        for name in ("batch_size", "shard_rows"):
            if getattr(self, name) < 1:
                raise InputError(f"gradients.{name}={getattr(self, name)}: must be at least 1")

    def fingerprint(self) -> dict[str, Any]:
        """What decides the stored gradients."""
        lora = dataclasses.asdict(self.lora)
        return {"lora": lora, "reduction": self.reduction, "seed": self.seed}

    def scaling(self) -> dict[str, Any]:
        """What is done to them on reading."""
        clip = {"clip_quantile": self.clip_quantile} if self.scale == "clip" else {}
        return {"scale": self.scale, **clip}
