"""Inner products of a window's gradients, added up layer by layer; no gradient is ever held whole.

K = Σ_f G_f G_fᵀ over the LoRA factors f. The batches' backward passes go through the layers side by
side: all of them through the last layer, whose factors' products are then added and dropped, then
all of them through the one before. Of n × d only one layer's coordinates are held at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spice.data.batches import Batch
from spice.distributed import team
from spice.gradients.collecting import collecting, factors
from spice.gradients.per_sample import outer_products, response_loss
from spice.models.recompute import decoder_layers

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn

    Segment = tuple[Tensor, Tensor]  # where a part of a batch's graph starts, and where it ends

COLUMNS = 2**16  # coordinates in float64 at a time


def gram(model: PeftModel, batches: Sequence[Batch], reduction: str) -> np.ndarray:
    """K (n × n, float64) of the rows of all batches, in their order.

    K_xy is ⟨g_x, g_y⟩ of :func:`spice.gradients.per_sample.per_sample_gradients`, whose numbers are
    float32's; products and sums are float64's. Several processes share the batches out, and put
    their rows of a layer together; one without a batch goes along with the first.
    """
    own = team.share(range(len(batches)))
    ends = np.cumsum([len(batch["input_ids"]) for batch in batches]).tolist()
    rows = [slice(i, j) for i, j in zip([0, *ends], ends, strict=False)]
    K = torch.zeros(ends[-1], ends[-1], dtype=torch.float64, device=batches[0]["input_ids"].device)
    blocks: dict[nn.Linear, Tensor] = {}
    now, tokens = rows[0], 0  # of the batch whose graph is gone back through

    def add(module: nn.Linear, delta: Tensor, x: Tensor) -> None:
        products = outer_products(delta, x, now.stop - now.start, tokens)
        if module not in blocks:
            blocks[module] = products.new_zeros(ends[-1], products.shape[1])
        blocks[module][now] += products

    with torch.enable_grad(), collecting(model, factors(model), add) as anchor:
        graphs = {i: _segments(model, batches[i], reduction, anchor) for i in own or [0]}
        onward: dict[int, Tensor | None] = dict.fromkeys(graphs)
        while all(graphs.values()):
            for i, graph in graphs.items():
                now, tokens = rows[i], batches[i]["input_ids"].shape[1]
                start, end = graph.pop()
                onward[i] = torch.autograd.grad(end, start, onward[i], allow_unused=True)[0]
            if not own:
                for block in blocks.values():
                    block.zero_()
            team.add_up(list(blocks.values()))  # of zeros but for one process's: exact
            _add_products(K, blocks)
            blocks.clear()
    return K.cpu().numpy()


def _add_products(K: Tensor, blocks: Mapping[nn.Linear, Tensor]) -> None:
    for block in blocks.values():
        for part in block.split(COLUMNS, dim=1):
            K.addmm_(part.double(), part.double().T)


def _segments(model: PeftModel, batch: Batch, reduction: str, anchor: Tensor) -> list[Segment]:
    """A batch's graph from its first factors to the loss, cut where a layer begins.

    A layer that is used twice belongs to two segments, and its gradient is the sum of both: such a
    model's graph is not cut.
    """
    layers = decoder_layers(model)
    starts: list[Tensor] = []
    ends: list[Tensor] = []

    def cut(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        ends.append(inputs[0])
        starts.append(inputs[0].detach().requires_grad_() if starts else anchor)
        return (starts[-1] if len(starts) > 1 else inputs[0], *inputs[1:])

    once = layers if len(set(layers)) == len(layers) else []
    handles = [layer.register_forward_pre_hook(cut) for layer in once]
    try:
        loss = response_loss(model, batch, reduction)
    finally:
        for handle in handles:
            handle.remove()
    return list(zip(starts or [anchor], [*ends[1:], loss], strict=True))


def in_their_span(K: np.ndarray) -> np.ndarray:
    """The same gradients in coordinates of their own span: n × n float64, with K as products.

    All that depends on inner products alone cannot tell them from the gradients. With
    K = D C D, D = diag ‖g‖, and the eigenvectors of C = V Λ Vᵀ, they are D V √Λ: an error in C is
    relative to each row's own length. Zero rows stay zero, rows that are not finite stay so.
    """
    G = np.full(K.shape, np.nan)
    finite = np.flatnonzero(np.isfinite(K.diagonal()))
    lengths = np.sqrt(K.diagonal()[finite])
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    values, vectors = np.linalg.eigh(K[np.ix_(finite, finite)] * np.outer(scale, scale))
    G[finite] = 0.0
    G[np.ix_(finite, np.arange(len(finite)))] = vectors * np.sqrt(np.maximum(values, 0.0))
    G[finite] *= lengths[:, None]
    return G
