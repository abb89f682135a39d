"""A causal model's head, applied where something is asked of it, and in pieces.

A position's logits are as many numbers as there are words: of a whole batch they are by far the
largest thing in memory. The head looks at one position at a time, so that positions may be left
out, and the others taken in pieces, without a change but of rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from spice.models.memory import PIECE

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")
Head = Callable[["Tensor"], "Tensor"]  # hidden states m × h in, logits m × v out


def token_nll(
    model: nn.Module, inputs: dict[str, Tensor], places: Tensor, targets: Tensor
) -> Tensor:
    """Negative log-likelihood of m ``targets``, each behind one of m ``places``: m, in nats.

    ``inputs`` are b × t, and places count through them row by row. float32 at least.
    """
    own = _causal(model)
    if own.get_decoder() is own or (torch.is_grad_enabled() and _learns(own)):
        logits = model(**inputs, use_cache=False).logits.flatten(0, 1)
        return _nll(logits[places], targets)

    def ask(hidden: Tensor, head: Head) -> Tensor:
        nll: Tensor = _Nll.apply(hidden[places], targets, head, _rows(own))
        return nll

    return _ask(model, inputs, ask)


@torch.no_grad()
def token_choices(
    model: nn.Module, inputs: dict[str, Tensor], places: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """log p of m ``targets`` (m, nats), and whether each is the likeliest token there (m)."""
    own = _causal(model)

    def ask(hidden: Tensor, head: Head) -> tuple[Tensor, Tensor]:
        log_p, first = [hidden.new_zeros(0).float()], [targets.new_zeros(0, dtype=torch.bool)]
        for part in _pieces(len(places), _rows(own)):
            logits = head(hidden[places[part]])
            log_p.append(-_nll(logits, targets[part]))
            first.append(logits.argmax(dim=1) == targets[part])
        return torch.cat(log_p), torch.cat(first)

    if own.get_decoder() is own:
        logits = model(**inputs, use_cache=False).logits.flatten(0, 1)
        return ask(logits, lambda asked: asked)
    return _ask(model, inputs, ask)


def _causal(model: Any) -> Any:
    """The language model inside an adapter."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _learns(own: Any) -> bool:
    """Whether the head has weights with a gradient of their own, which only the whole gives."""
    head = own.get_output_embeddings()
    return head is None or any(weight.requires_grad for weight in head.parameters())


def _ask(model: nn.Module, inputs: dict[str, Tensor], ask: Callable[[Tensor, Head], T]) -> T:
    """What is asked of the model's last hidden states, bt × h.

    It is asked inside the model's own pass, of which the last positions' logits alone are made:
    whatever is wrapped around the model, its weights are at hand there.
    """
    own = _causal(model)
    found: list[T] = []

    def meet(decoder: nn.Module, args: Any, output: Any) -> None:
        handle.remove()  # the head goes by here again
        found.append(ask(output[0].flatten(0, 1), partial(_logits, own, decoder, type(output))))

    handle = own.get_decoder().register_forward_hook(meet)
    try:
        model(**inputs, use_cache=False, logits_to_keep=1)
    finally:
        handle.remove()
    return found[0]


def _logits(own: Any, decoder: Any, kind: Any, hidden: Tensor) -> Tensor:
    """The model's own way from hidden states m × h to logits m × v, scaled and capped as it does.

    Its pass is run with these in place of what the layers would give.
    """
    there = decoder.__dict__.get("forward")
    decoder.forward = lambda *args, **named: kind(last_hidden_state=hidden[None])
    try:
        logits: Tensor = own.forward(inputs_embeds=hidden[None], use_cache=False).logits[0]
    finally:
        del decoder.forward
        if there is not None:
            decoder.forward = there
    return logits


def _rows(own: Any) -> int:
    """How many positions make a piece."""
    return max(PIECE // int(own.config.get_text_config().vocab_size), 1)


def _pieces(count: int, rows: int) -> Iterator[slice]:
    return (slice(start, start + rows) for start in range(0, count, rows))


def _nll(logits: Tensor, targets: Tensor) -> Tensor:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.nn.functional.cross_entropy(wide, targets, reduction="none")


class _Nll(torch.autograd.Function):
    """Losses of m tokens from hidden states m × h; both ways are gone through piece by piece.

    A loss depends on its own position alone, so that its gradient can be made at once, and be
    multiplied on the way back by what comes in.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, head: Head, rows: int) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        nll = torch.zeros(len(targets), dtype=wide, device=hidden.device)
        slope = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        for part in _pieces(len(targets), rows):
            nll[part] = _piece(
                hidden[part], targets[part], head, None if slope is None else slope[part]
            )
        ctx.save_for_backward(slope)
        return nll

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, None, None, None]:
        [slope] = ctx.saved_tensors
        return (given[0][:, None] * slope).to(slope.dtype), None, None, None


def _piece(hidden: Tensor, targets: Tensor, head: Head, slope: Tensor | None) -> Tensor:
    """Losses of a piece; ``slope``, m × h, is filled with their derivatives."""
    if slope is None:
        return _nll(head(hidden), targets)
    with torch.enable_grad():
        leaf = hidden.detach().requires_grad_()
        nll = _nll(head(leaf), targets)
        slope.copy_(torch.autograd.grad(nll.sum(), leaf)[0])
    return nll.detach()
