"""Answers that a model writes, in padded batches, each up to its first stop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens = list[int]
PROMPT_TAIL = 8  # tokens of the prompt that an answer is decoded behind


@dataclass(frozen=True)
class Generation:
    """What a model is asked to write: ``budget`` tokens behind ``prompt``, or up to a stop."""

    prompt: Tokens
    budget: int
    cut: bool  # the prompt has lost its beginning
    shortened: bool  # the context leaves less room than the task asks for
    stops: tuple[str, ...]
    sampling: str  # JSON, so that requests with the same settings can share a batch

    @property
    def length(self) -> int:
        """Tokens that the model may come to hold."""
        return len(self.prompt) + self.budget


class Writer:
    """A model that writes: greedily unless the task samples, up to a stop or any end token.

    Penalties that a checkpoint's ``generation_config`` may hold have no part in it.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, end_id: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.end_id = end_id  # a chat template's, which need not be the tokenizer's

    @torch.no_grad()
    def write(self, plans: Sequence[Generation]) -> list[tuple[str, bool]]:
        """Per row the answer, and whether it ended by itself; all share budget, stops, sampling."""
        width = max(len(plan.prompt) for plan in plans)
        padding = [width - len(plan.prompt) for plan in plans]
        device = self.model.device
        ids = [[0] * pad + plan.prompt for pad, plan in zip(padding, plans, strict=True)]
        mask = [[0] * pad + [1] * (width - pad) for pad in padding]
        stop = _StopAtText(self.tokenizer, plans[0].stops, width, len(plans))
        output = self.model.generate(
            input_ids=torch.tensor(ids, device=device),
            attention_mask=torch.tensor(mask, device=device),
            generation_config=self._generation_config(plans[0]),
            stopping_criteria=StoppingCriteriaList([stop]),
        )
        new = output[:, width:].tolist()
        return [
            self.finish(plan, row[:end], stopped=end is not None)
            for plan, row, end in zip(plans, new, stop.ends, strict=True)
        ]

    def finish(self, plan: Generation, new: Tokens, stopped: bool) -> tuple[str, bool]:
        """The text of an answer's tokens up to its end, and whether it ended by itself."""
        ends = [i for i, token in enumerate(new) if token in self.end_ids()]
        new = new[: ends[0]] if ends else new
        # Decoded behind the prompt: on its own, some tokenizers drop an answer's leading space.
        tail = plan.prompt[-PROMPT_TAIL:]
        text = self._decode(tail + new)[len(self._decode(tail)) :]
        for term in plan.stops:
            text = text.partition(term)[0]
        return text, stopped or bool(ends)

    def _decode(self, ids: Tokens) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _generation_config(self, plan: Generation) -> GenerationConfig:
        ends = self.end_ids()
        pad = self.tokenizer.pad_token_id
        return GenerationConfig(
            **{"num_beams": 1, "repetition_penalty": 1.0, **json.loads(plan.sampling)},
            max_new_tokens=plan.budget,
            eos_token_id=ends or None,
            pad_token_id=pad if pad is not None else next(iter(ends), 0),
        )

    def end_ids(self) -> list[int]:
        """The tokenizer's end token, the one answers were trained to end with, the model's own."""
        own = getattr(self.model.generation_config, "eos_token_id", None)
        more = own if isinstance(own, list) else [own]
        ids = [self.tokenizer.eos_token_id, self.end_id, *more]
        return sorted({i for i in ids if i is not None})


class _StopAtText(StoppingCriteria):
    """Ends each row of a batch once its new text holds one of ``stops``."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], start: int, rows: int
    ) -> None:
        self.tokenizer, self.stops, self.start = tokenizer, stops, start
        # A token holds at least one byte, so this many reach back over any of the stops.
        self.window = max((len(s.encode()) for s in stops), default=0) + 1
        self.ends: list[int | None] = [None] * rows

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        new = input_ids[:, self.start :]
        for i, end in enumerate(self.ends):
            if end is None and self.stops:
                tail = self.tokenizer.decode(new[i, -self.window :])
                if any(stop in tail for stop in self.stops):
                    self.ends[i] = new.shape[1]
        done = [end is not None for end in self.ends]
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)
