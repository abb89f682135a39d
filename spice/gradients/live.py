"""Gradients off a model that somebody has in hand: rows in, numpy out, nothing else changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer

from spice.data.batches import length_order, pad
from spice.data.layouts import find_row
from spice.data.rendering import Example, Renderer
from spice.data.template import Template
from spice.data.token_table import eligible_rows, lengths
from spice.data.values import BadRowError
from spice.errors import InputError, did_you_mean
from spice.gradients.collecting import factors
from spice.gradients.extraction import Extraction
from spice.gradients.per_sample import dimension, per_sample_gradients, row_bytes
from spice.models.attention import prepare_attention
from spice.models.autocast import multiply_in_bfloat16
from spice.models.device import moved
from spice.models.lora import Lora, on
from spice.models.room import Room
from spice.models.whole_weights import multiply_whole
from spice.records import Row
from spice.storage.coding import FLOAT32

if TYPE_CHECKING:
    from torch import nn


class LoraOptions(TypedDict, total=False):
    """The adapter that a model without one gets; :class:`spice.models.lora.Lora` says more."""

    r: int
    alpha: int
    dropout: float
    targets: str | Sequence[str]
    layers: int | None


class Options(TypedDict, total=False):
    """What :func:`gradients` may be told beside the rows; :data:`DEFAULTS` has the rest.

    All are the command line's, from ``template.*`` and ``gradients.*``.
    """

    #: Longest row in tokens; the model's own context bounds it further.
    max_tokens: int
    #: The tokenizer's chat template, our plain pieces, or the first where there is one.
    mode: Literal["auto", "chat", "plain"]
    #: Which answers of a conversation are learnt.
    supervise: Literal["all", "last"]
    #: Whether a system turn is kept, or said in front of the first user turn.
    system_turn: Literal["keep", "user"]
    #: The day that a chat template is told.
    date: str
    #: The plain pieces, each with ``{content}`` but for ``answer``, which opens an answer.
    system: str
    user: str
    answer: str
    earlier_answer: str
    #: How a row's loss is made of its tokens'.
    reduction: Literal["mean", "sum"]
    #: Coordinates that gradients are projected to as they are made; None: all of them.
    projection: int | None
    #: Draws the adapter of a model without one, and the projection.
    seed: int
    #: Rows of a batch, at most.
    batch_size: int
    #: Its tokens, at most, padding included; ``"auto"``: what fits half of the free memory.
    batch_tokens: int | Literal["auto"]
    #: Batches of more tokens compute activations twice instead of keeping them.
    recompute_tokens: int | Literal["auto"]
    #: Products in bfloat16.
    autocast: Literal["bfloat16"] | None
    #: The adapter of a model without one.
    lora: LoraOptions


DEFAULTS: Options = {
    "max_tokens": 2048,
    "mode": "auto",
    "supervise": "all",
    "system_turn": "keep",
    "date": "2024-07-26",
    "system": "{content}\n\n",
    "user": "### Instruction:\n{content}\n\n",
    "answer": "### Response:\n",
    "earlier_answer": "{content}\n\n",
    "reduction": "mean",
    "projection": None,
    "seed": 0,
    "batch_size": 64,
    "batch_tokens": "auto",
    "recompute_tokens": "auto",
    "autocast": None,
    "lora": {"r": 16, "alpha": 32, "dropout": 0.05, "targets": "all-linear", "layers": None},
}
OF_TEMPLATE = tuple(Template.__annotations__)


def gradients(
    model: Any, tokenizer: Any, rows: Sequence[Mapping[str, Any] | Row], **options: Unpack[Options]
) -> np.ndarray:
    """Each row's gradient of the loss of its answers with respect to the model's LoRA factors.

    A model with adapters is read as it is, at those that are active; B alone where B is zero, for
    the gradient of A is zero there. One without any gets the command line's for as long as this
    takes: then these are the numbers of the command line's store, to the bit where batches hold
    the same rows. Dropout is off. Afterwards the model is as it was, and so are the tokenizer and
    all random numbers; no file is written.

    Args:
        model: a causal language model of transformers, or a PEFT model around one, on any device.
        tokenizer: its tokenizer, a fast one.
        rows: n objects with the fields of any known layout: ``instruction``, ``input``,
            ``response``, ``system`` and ``history``; ``prompt`` and ``completion``; or
            ``messages``, whose answers may have a ``weight`` of 0.
        options: :class:`Options` says what each means, :data:`DEFAULTS` what it is if not given.

    Returns:
        n × d, float32; a row that has nothing to learn within ``max_tokens`` is NaN, and
        :func:`spice.select` leaves it out.

    Raises:
        InputError: an option outside its range, a row that is none, a model or a tokenizer that
            cannot be used, or adapters that are merged, switched off or no LoRA.
        TypeError: an option that there is not.
    """
    template, extraction = _settings(options)
    _check_model(model, "lora" in options)
    copied = _copied(tokenizer)
    examples = _examples(copied, template, model, [_row(r, i) for i, r in enumerate(rows)])
    ends = copied.eos_token_id if copied.pad_token_id is None else copied.pad_token_id
    quiet = torch.autocast(_device(model).type, enabled=False)
    with torch.inference_mode(False), quiet, left_as_it_was(model):
        return _read(_ready(model, extraction), extraction, examples, int(ends))


def _settings(options: Options) -> tuple[Template, Extraction]:
    for name in options:
        if name not in DEFAULTS:
            hint = did_you_mean(name, DEFAULTS)
            raise TypeError(f"gradients() got an unexpected keyword argument {name!r}.{hint}")
    given: dict[str, Any] = {
        **DEFAULTS, **{n: v.item() if isinstance(v, np.generic) else v for n, v in options.items()}
    }  # fmt: skip
    lora = Lora(**{**DEFAULTS["lora"], **given.pop("lora")})
    pieces = {name: given.pop(name) for name in OF_TEMPLATE if name in given}
    # What a store would be like does not matter here; rows that cannot be written are refused.
    return Template(**pieces, on_bad_row="error"), Extraction(
        lora=lora, dtype=FLOAT32, shard_rows=1, **given
    )


def _check_model(model: Any, lora: bool) -> None:
    if not isinstance(model, torch.nn.Module) or not hasattr(model, "get_input_embeddings"):
        kind = type(model).__name__
        raise InputError(f"model: must be one of transformers or of PEFT, not {kind}")
    whole: Any = model
    layers = [module for module in whole.modules() if isinstance(module, BaseTunerLayer)]
    if lora and layers:
        raise InputError("lora: the model has adapters already, at which gradients are read")
    if any(layer.merged for layer in layers):
        raise InputError("model: its adapters are merged; unmerge_adapter() takes them out")
    if any(layer.disable_adapters for layer in layers):
        raise InputError("model: its adapters are switched off")
    if any(vars(layer).get("lora_variant") for layer in layers):
        raise InputError("model: its adapters are a variant of LoRA, such as DoRA; plain ones work")
    if (layers or isinstance(whole, PeftModel)) and not factors(whole):
        raise InputError("model: its active adapters are no LoRA on linear layers")


def _copied(tokenizer: Any) -> Any:
    """A tokenizer remembers how it was last asked; this one is nobody else's."""
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"tokenizer: must be a fast one of transformers, not {type(tokenizer).__name__}"
        )
    return copy.deepcopy(tokenizer)


def _row(record: Any, number: int) -> Row:
    if isinstance(record, Row):
        return record
    try:
        return find_row(dict(record) if isinstance(record, Mapping) else record, "rows").row
    except BadRowError as error:
        raise InputError(f"rows[{number}]: {error}") from None


def _examples(tokenizer: Any, template: Template, model: Any, rows: Sequence[Row]) -> list[Example]:
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    examples, lost = Renderer(tokenizer, template, context).attempt(rows)
    for number, why in lost.items():
        raise InputError(
            f"rows[{number}]: {why} ({len(lost)} of {len(rows)} rows are so); mode='plain' writes "
            "all rows, system_turn='user' moves what a system turn says"
        )
    return examples


def _device(model: Any) -> torch.device:
    return next(model.parameters()).device


def _ready(model: Any, extraction: Extraction) -> Any:
    """The model as the command line would have loaded it, with adapters to be read at."""
    multiply_whole(model)
    prepare_attention(model)
    if not on(model):
        return extraction.attach(model).eval()
    if extraction.autocast:
        multiply_in_bfloat16(model)
    return model.eval()


def _read(
    model: Any, extraction: Extraction, examples: Sequence[Example], pad_id: int
) -> np.ndarray:
    sketch, where = extraction.sketch(), _device(model)
    found = np.full((len(examples), dimension(model, sketch)), np.nan, np.float32)
    room = Room(model, extraction.batch_limit, "learning", row_bytes(model, sketch))
    order = length_order(examples, eligible_rows(examples))
    for part in extraction.batch_limit.cut(lengths(examples)[order].tolist()):
        batch = moved(pad(examples, order[part].tolist(), pad_id), where)
        parts = room.parts(
            lambda batch: per_sample_gradients(model, batch, extraction.reduction, sketch), batch
        )
        found[order[part]] = torch.cat(parts).cpu().numpy()
    return found


@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Undo what the block does to a model but for its numbers: adapters, modes, what is patched."""
    modules = list(model.modules())
    named = [module.config for module in modules if hasattr(module, "config")]
    holders = [*modules, *{id(config): config for config in named}.values()]
    kept = [(holder, dict(vars(holder))) for holder in holders]
    children = [(module, dict(module._modules)) for module in modules]
    trained = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        yield
    finally:
        for holder, attributes in kept:
            vars(holder).clear()
            vars(holder).update(attributes)
        for module, inside in children:
            module._modules.clear()
            module._modules.update(inside)
        for weight, learns in trained:
            weight.requires_grad_(learns)
