"""How gradients are read; no torch here, so that a wrong option is told at once."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal

from spice.data.batch_limit import BatchLimit
from spice.gradients.projection import Sketch
from spice.models.autocast import multiply_in_bfloat16
from spice.models.lora import Lora
from spice.storage.coding import CODINGS, stored_as
from spice.values import AutoCount, Count, OneOf, Seed, component

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@component
class Extraction:
    """What stands behind ``gradients=``.

    ``lora`` adapters are attached fresh from ``seed``, which is not the run's own, so that runs
    over several seeds share one store. ``reduction`` and ``lora`` make the store; at which scale
    they are chosen from is the selector's. With ``projection`` they are stored as that many
    coordinates (:mod:`spice.gradients.projection`), in ``dtype``
    (:mod:`spice.storage.coding`). A batch holds at most ``batch_size`` rows and ``batch_tokens``
    tokens, padding included, but one row at least; of more than ``recompute_tokens`` the
    activations are not kept (:mod:`spice.models.recompute`); ``auto`` asks what memory is free
    (:mod:`spice.models.room`). These three and ``shard_rows`` change nothing. With ``autocast``
    the model multiplies in that precision (:mod:`spice.models.autocast`); gradients are put
    together in float32 in any case.

    Raises:
        InputError: an option outside its range.
    """

    lora: Lora
    reduction: Literal["mean", "sum"]
    projection: Count | None
    dtype: Annotated[str, OneOf(*CODINGS)]
    batch_size: Count
    batch_tokens: AutoCount
    recompute_tokens: AutoCount
    shard_rows: Count
    seed: Seed
    autocast: Literal["bfloat16"] | None = None

    def fingerprint(self) -> dict[str, Any]:
        """What decides the stored gradients."""
        lora = dataclasses.asdict(self.lora)
        projection = {"projection": self.projection} if self.projection else {}
        autocast = {"autocast": self.autocast} if self.autocast else {}
        made = {"lora": lora, "reduction": self.reduction, "seed": self.seed}
        return {**made, **autocast, **projection, **stored_as(self.dtype)}

    @property
    def batch_limit(self) -> BatchLimit:
        """What one batch may hold."""
        tokens, recomputed = (
            None if count == "auto" else count
            for count in (self.batch_tokens, self.recompute_tokens)
        )
        return BatchLimit(self.batch_size, tokens, recomputed)

    def attach(self, base: PreTrainedModel) -> PeftModel:
        """The model with the adapter that gradients are read at."""
        model = self.lora.attach(base, self.seed)
        if self.autocast:
            multiply_in_bfloat16(model)
        return model

    def sketch(self) -> Sketch | None:
        """The projection, if there is one."""
        return Sketch(self.projection, self.seed) if self.projection else None
