"""A pool's gradients on disk: extracted shard by shard, and told how far storing moved them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spice.data.batches import length_order, pad
from spice.data.rendering import Example
from spice.data.token_table import eligible_rows
from spice.distributed import team
from spice.distributed.per_rank import PerRank
from spice.gradients.extraction import Extraction
from spice.gradients.passes import fill, open_store
from spice.gradients.per_sample import dimension, per_sample_gradients, row_bytes, sketched
from spice.gradients.projection import Sketch
from spice.models.device import moved
from spice.storage.coding import FLOAT32, round_trip
from spice.storage.files import write_json
from spice.storage.seals import is_sealed, publish_sealed
from spice.submodular.kernel import Rows, products, squared_norms

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel


FEW = 2e11  # n²d up to which K is made in a few seconds
ASKED = 16  # rows by which it is told how far inner products were moved


def extract(
    load: Callable[[], PreTrainedModel],
    extraction: Extraction,
    examples: Sequence[Example],
    ids: Sequence[str],
    *,
    folder: Path,
    metadata: dict[str, Any],
    pad_id: int,
    trainer: dict[str, Any],
    say: Callable[[str], None],
) -> None:
    """Fill the store in ``folder`` with the gradients it lacks; every process loads the model."""
    adapted = PerRank(partial(_adapted, load, extraction))
    rows, size = eligible_rows(examples), extraction.shard_rows
    sketch = extraction.sketch()
    width, memory = team.everywhere(_sizes, adapted, sketch)[0]
    store = open_store(folder, examples, rows, ids, metadata, size, extraction.dtype, width)
    read = partial(per_sample_gradients, reduction=extraction.reduction, sketch=sketch)
    fill(
        store,
        adapted,
        read,
        examples,
        limit=extraction.batch_limit,
        kind="learning",
        row=memory,
        pad_id=pad_id,
        trainer=trainer,
        say=say,
    )
    asked = [examples[row] for row in length_order(examples, rows)[:: -(-len(rows) // ASKED) or 1]]
    for what, error in team.everywhere(_errors, adapted, asked, extraction, pad_id)[0].items():
        write_json(folder / f"{what}.json", error)
        say(f"{what}: inner products off by {error['rms']:.2g} of the norms' product")


def _adapted(load: Callable[[], PreTrainedModel], extraction: Extraction) -> PeftModel:
    return extraction.attach(load()).eval()


def _sizes(adapted: PerRank[PeftModel], sketch: Sketch | None, here: None) -> tuple[int, int]:
    """Coordinates of a row's gradient, and the bytes that it takes while it is made."""
    return dimension(adapted(), sketch), row_bytes(adapted(), sketch)


def _errors(
    adapted: PerRank[PeftModel],
    examples: Sequence[Example],
    extraction: Extraction,
    pad_id: int,
    here: None,
) -> dict[str, dict[str, Any]]:
    """What moved the stored gradients' inner products, and how far; all find the same."""
    model, reduction, sketch = adapted(), extraction.reduction, extraction.sketch()
    found: dict[str, dict[str, Any]] = {}
    if sketch:
        found["projection"] = projection_error(model, examples, reduction, sketch, pad_id)
    if extraction.dtype != FLOAT32:
        told = reduction, sketch, pad_id, extraction.dtype
        found["rounding"] = rounding_error(model, examples, *told)
    return found


def projection_error(
    model: PeftModel,
    examples: Sequence[Example],
    reduction: str,
    sketch: Sketch,
    pad_id: int,
) -> dict[str, Any]:
    """How far ⟨Sx, Sy⟩ is from ⟨x, y⟩, over ‖x‖‖y‖, for all pairs of some rows, x = y included.

    A projection to p coordinates is expected to be off by 1/√p to √(2/p), which grows with the
    cosine.
    """
    exact = _one_by_one(model, examples, reduction, None, pad_id)
    return product_errors(exact, sketched(exact, model, sketch))


def rounding_error(
    model: PeftModel,
    examples: Sequence[Example],
    reduction: str,
    sketch: Sketch | None,
    pad_id: int,
    dtype: str,
) -> dict[str, Any]:
    """The same of gradients, projected if they are to be, as they are read from a store."""
    exact = _one_by_one(model, examples, reduction, sketch, pad_id)
    return product_errors(exact, torch.from_numpy(round_trip(exact.numpy(), dtype)))


def _one_by_one(
    model: PeftModel,
    examples: Sequence[Example],
    reduction: str,
    sketch: Sketch | None,
    pad_id: int,
) -> Tensor:
    """Gradients of few rows, each a batch of its own, on the CPU."""
    where = next(model.parameters()).device
    found = []
    for row in range(len(examples)):
        batch = pad(examples, [row], pad_id)
        found.append(per_sample_gradients(model, moved(batch, where), reduction, sketch).cpu())
    return torch.cat(found) if found else torch.zeros(0, dimension(model, sketch))


def product_errors(gradients: Tensor, others: Tensor) -> dict[str, Any]:
    """How far ⟨x', y'⟩ is from ⟨x, y⟩, over ‖x‖‖y‖, for all pairs of n rows, x = y included.

    ``gradients`` x are n × d, ``others`` x' as many of any length.
    """
    exact, found = ((G @ G.T).double() for G in (gradients, others))
    norms = exact.diagonal().sqrt()
    pairs = torch.triu_indices(len(exact), len(exact))
    products = norms.outer(norms).clamp(min=1e-300)
    errors = ((found - exact) / products)[pairs[0], pairs[1]]
    return {
        "rows": len(exact),
        "rms": float(errors.square().mean().sqrt()),
        "largest": float(errors.abs().max()),
    }


def read(
    folder: Path,
    extraction: Extraction,
    examples: Sequence[Example],
    ids: Sequence[str],
    metadata: dict[str, Any],
) -> Rows:
    """A finished store's gradients n × d; they stay on disk."""
    rows = eligible_rows(examples)
    size, dtype = extraction.shard_rows, extraction.dtype
    stored = open_store(folder, examples, rows, ids, metadata, size, dtype).rows()
    stored.squares = squared_norms(stored)  # which every selection asks for, some of them twice
    stored.products = _kept_products(folder.with_name(f"{folder.name}.products.npy"), stored)
    return stored


def _kept_products(path: Path, rows: Rows) -> np.ndarray | None:
    """K of a small pool, made once and kept beside its store for every further λ, α and ω."""
    n, d = rows.shape
    if n**2 * d > FEW:
        return None
    if not is_sealed(path):
        publish_sealed(path, partial(_save, products(rows)))
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _save(values: np.ndarray, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, values, allow_pickle=False)
