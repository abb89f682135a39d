"""What fits a model's context: prompts and answers as tokens, shortened where they are too long."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

from spice.evaluation.generation import Generation, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from spice.data.rendering import Renderer


class Pair(NamedTuple):
    """A context and a continuation that is to be scored behind it; ``cut`` if either lost some."""

    context: Tokens
    continuation: Tokens
    cut: bool


@dataclass(frozen=True)
class Context:
    """The ``max_length`` tokens that prompt and answer share, and how text becomes tokens.

    Where both together exceed ``max_length``, the answer gets at most half of it and the prompt
    keeps its end in the rest, behind bos if there is one. No answer is longer than
    ``max_new_tokens``, if that is given. With ``chat`` prompts are the renderer's.
    """

    tokenizer: PreTrainedTokenizerBase
    renderer: Renderer
    max_length: int
    chat: bool = False
    max_new_tokens: int | None = None

    def encode(self, text: str) -> Tokens:
        """The tokens of a prompt, with exactly one bos where the model wants one."""
        if self.chat:
            return self.renderer.prompt_ids(text)
        ids = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return [self.tokenizer.bos_token_id, *ids] if self._adds_bos else ids

    def pair(self, context: str, continuation: str) -> Pair:
        """What is to be scored, as far as it fits."""
        head, tail = self._split(context, continuation)
        excess = len(head) + len(tail) - (self.max_length + 1)  # the last is only read
        if excess <= 0:
            return Pair(head, tail, cut=False)
        tail = tail[: max(1, self.max_length // 2)]
        return Pair(self._keep_end(head, self.max_length + 1 - len(tail)), tail, cut=True)

    def generation(self, text: str, settings: Mapping[str, Any]) -> Generation:
        """What is to be written behind ``text`` under lm-eval's ``settings``, as far as it fits."""
        options: dict[str, Any] = normalize_gen_kwargs(settings)
        stops = tuple(s for s in handle_stop_sequences(options.pop("until", None), None) if s)
        asked = min(options.pop("max_gen_toks"), self.max_new_tokens or sys.maxsize)
        prompt = self.encode(text) or [self._first_id()]
        fits = len(prompt) + asked <= self.max_length
        budget = asked if fits else min(asked, max(1, self.max_length // 2))
        kept = self._keep_end(prompt, self.max_length - budget)
        return Generation(
            prompt=kept,
            budget=budget,
            cut=len(kept) < len(prompt),
            shortened=budget < asked,
            stops=stops,
            sampling=json.dumps(options, sort_keys=True),
        )

    def _split(self, context: str, continuation: str) -> tuple[Tokens, Tokens]:
        """Split the tokens of the whole text where the context's own tokens end.

        As in lm-eval: spaces at the end of plain text belong to the continuation, since most
        tokenizers write them at the beginning of words. A chat template's end stays its own.
        """
        head = self.encode(context if self.chat else context.rstrip())
        whole = self.encode(context + continuation)
        if not head:  # nothing to condition on: the end token separates documents in training
            return [self._first_id()], whole
        return head, whole[len(head) :] or whole[-1:]

    def _keep_end(self, prompt: Tokens, length: int) -> Tokens:
        """The last tokens of a prompt, still behind its bos."""
        if len(prompt) <= length:
            return prompt
        if prompt[0] == self.tokenizer.bos_token_id and length > 1:
            return [prompt[0], *prompt[len(prompt) - length + 1 :]]
        return prompt[len(prompt) - length :]

    def _first_id(self) -> int:
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return eos if bos is None else bos

    @functools.cached_property
    def _adds_bos(self) -> bool:
        """Whether bos is to be put in front, by the renderer's word or the tokenizer's habit."""
        bos = self.tokenizer.bos_token_id
        return self.renderer.add_bos or (
            bos is not None and self.tokenizer.encode("a")[:1] == [bos]
        )
