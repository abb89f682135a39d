"""A frozen model that none of the processes could hold: its layers divided among them.

The first process reads the checkpoint and hands each layer's parts out. Embeddings and the head are
whole everywhere, as are adapters, which are put on later. A layer is put together where its own
pass begins, forward or back, and stays so until another one is.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from spice.distributed import team
from spice.distributed.parted import Parted
from spice.models.attention import prepare_attention
from spice.models.memory import hand_back_what_is_freed
from spice.models.recompute import decoder_layers

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from spice.models.checkpoint import Checkpoint


def load_divided(checkpoint: Checkpoint) -> PreTrainedModel:
    """The checkpoint's model, frozen; all processes load it at once.

    Raises:
        InputError: as :meth:`Checkpoint.outline`.
    """
    hand_back_what_is_freed()  # layers come and go
    model = checkpoint.whole() if team.is_first() else checkpoint.outline().eval()
    prepare_attention(model)
    where = f"cuda:{team.local_rank()}" if team.on_gpus() else "cpu"
    for layer in dict.fromkeys(decoder_layers(model)):
        _divide(layer, where)
    _hand_out(model, where)
    hand_back_what_is_freed()
    vars(model)["_apply"] = lambda *_, **__: model  # it stays: Lightning moves what it has trained
    return model


def _divide(layer: nn.Module, where: str) -> None:
    weights: dict[Tensor, None] = dict.fromkeys(layer.parameters())
    parted = Parted(list(weights), where)
    _put(layer, dict(zip(weights, map(_frozen, parted.tensors), strict=True)))
    layer.register_forward_pre_hook(lambda *_: parted.open())
    layer.register_forward_hook(partial(_open_on_the_way_back, parted))


def _open_on_the_way_back(parted: Parted, layer: nn.Module, inputs: Any, output: Any) -> None:
    hidden = output[0] if isinstance(output, tuple) else output
    if hidden.requires_grad:
        hidden.register_hook(lambda _: parted.open())


def _hand_out(model: nn.Module, where: str) -> None:
    """Have all that is not divided whole on every process: weights, buffers, and plain tensors."""
    import torch

    divided = {weight for layer in decoder_layers(model) for weight in layer.parameters()}
    weights: dict[Tensor, None] = dict.fromkeys(model.parameters())
    others = [weight for weight in weights if weight not in divided]
    _put(model, {weight: _frozen(_sent(weight, where)) for weight in others})
    for module in model.modules():
        for values in (module._buffers, vars(module)):
            for name, value in values.items():
                if torch.is_tensor(value):
                    values[name] = _sent(value, where)


def _sent(given: Tensor, where: str) -> Tensor:
    """What the first process has, of which the others know the shape."""
    import torch
    import torch.distributed as dist

    if team.is_first():
        mine = given.detach().to(where, copy=True)  # as it is, it keeps the whole file in memory
    else:
        mine = torch.empty_like(given, device=where)
    dist.broadcast(mine, src=0)
    return mine


def _put(model: nn.Module, others: dict[Tensor, nn.Parameter]) -> None:
    """Others in a model's weights' places; weights that are shared stay so."""
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight in others:
                module._parameters[name] = others[weight]


def _frozen(weight: Tensor) -> nn.Parameter:
    from torch import nn

    return nn.Parameter(weight, requires_grad=False)
