"""A live model behind lm-eval's interface, and lm-eval made quiet, offline and safe.

What is measured is lm-eval's: its tasks, prompts, filters, metrics and aggregation. How a model is
asked is ours, because the harness's own wrapper reloads models, loses or doubles bos when it cuts
a prompt, and stops with an error where an answer might not fit the context.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.api.model import LM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from tqdm import tqdm
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from spice.data.rendering import Renderer

Tokens = list[int]
PROMPT_TAIL = 8  # tokens of the prompt that an answer is decoded behind


@dataclass(frozen=True)
class _Generation:
    """What a model is asked to write: ``budget`` tokens behind ``prompt``, or up to a stop."""

    prompt: Tokens
    budget: int
    shortened: bool  # the context leaves less room than the task asks for
    stops: tuple[str, ...]
    sampling: str  # JSON, so that requests with the same settings can share a batch


class LiveModel(LM):
    """A model and tokenizer in memory, as lm-eval wants to see them.

    **What does not fit.** Where prompt and answer together exceed ``max_length``, the answer gets
    at most half of it and the prompt keeps its end in the rest, behind bos if there is one. This
    holds for generated answers and for choices that are scored. ``cut`` collects the (task,
    document) pairs that lost something: part of the prompt, part of a choice, or the end of an
    answer that was still going on where the room ended.

    **Decoding** is plain: greedy unless the task samples, without penalties that a checkpoint's
    ``generation_config`` may hold, up to the task's stops or any of the model's end tokens.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        renderer: Renderer,
        *,
        max_length: int,
        batch_size: int,
        chat: bool = False,
        max_new_tokens: int | None = None,
        label: str = "",
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.tokenizer = tokenizer
        self.renderer = renderer
        self.max_length = max_length
        self.batch_size = batch_size
        self.chat = chat
        self.max_new_tokens = max_new_tokens
        self.label = label
        self.cut: set[tuple[str | None, int | None]] = set()
        self.add_bos = renderer.add_bos or (not chat and _starts_with_bos(tokenizer))

    @property
    def tokenizer_name(self) -> str:
        """Needed for lm-eval's request cache only, which is not used."""
        return ""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The renderer's prompt; a begun answer, if the task gives one, is put behind it."""
        if add_generation_prompt:
            return self.renderer.prompt_text(chat_history)
        *before, begun = chat_history
        return self.renderer.prompt_text(before) + begun["content"]

    def encode(self, text: str) -> Tokens:
        """The tokens of a prompt, with exactly one bos where the model wants one."""
        if self.chat:
            return self.renderer.prompt_ids(text)
        ids = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return [self.tokenizer.bos_token_id, *ids] if self.add_bos else ids

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """log p(continuation | context) in nats, and whether greedy decoding would write it."""
        pairs = [self._fit_pair(request) for request in requests]
        # Continuations that differ in their last token only share one pass through the model.
        sharing: dict[tuple[int, ...], list[int]] = {}
        for i, (context, continuation) in enumerate(pairs):
            sharing.setdefault((*context, *continuation[:-1]), []).append(i)
        answers: dict[int, tuple[float, bool]] = {}
        for batch in self._batches(sharing, key=len):
            needed = [max(len(pairs[i][1]) for i in sharing[ids]) for ids in batch]
            for ids, log_p in zip(batch, self._log_probabilities(batch, needed), strict=True):
                for i in sharing[ids]:
                    answers[i] = _read_off(log_p, pairs[i][1])
        return [answers[i] for i in range(len(requests))]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Not offered: perplexity over windows depends on how they are cut."""
        raise NotImplementedError("perplexity tasks are not supported")

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answers, each up to its first stop."""
        plans = [self._plan(request) for request in requests]
        # Equal budgets only, so that a padded batch never grows beyond the context.
        alike: dict[tuple[Any, ...], list[int]] = {}
        for i, plan in enumerate(plans):
            alike.setdefault((plan.budget, plan.stops, plan.sampling), []).append(i)
        answers: dict[int, str] = {}
        for members in alike.values():
            for batch in self._batches(members, key=lambda i: len(plans[i].prompt)):
                for i, (text, ended) in zip(
                    batch, self._generate([plans[i] for i in batch]), strict=True
                ):
                    answers[i] = text
                    if plans[i].shortened and not ended:
                        self._mark_cut(requests[i])
        return [answers[i] for i in range(len(requests))]

    # ---- what fits

    def _fit_pair(self, request: Instance) -> tuple[Tokens, Tokens]:
        context, continuation = self._encode_pair(*request.args)
        excess = len(context) + len(continuation) - (self.max_length + 1)  # the last is only read
        if excess <= 0:
            return context, continuation
        self._mark_cut(request)
        continuation = continuation[: max(1, self.max_length // 2)]
        return self._keep_end(context, self.max_length + 1 - len(continuation)), continuation

    def _encode_pair(self, context: str, continuation: str) -> tuple[Tokens, Tokens]:
        """Split the tokens of the whole text where the context's own tokens end.

        As in lm-eval: spaces at the end of plain text belong to the continuation, since most
        tokenizers write them at the beginning of words. A chat template's end stays its own.
        """
        head = self.encode(context if self.chat else context.rstrip())
        whole = self.encode(context + continuation)
        if not head:  # nothing to condition on: the end token separates documents in training
            return [self._first_id()], whole
        return head, whole[len(head) :] or whole[-1:]

    def _plan(self, request: Instance) -> _Generation:
        text, settings = request.args
        settings = normalize_gen_kwargs(settings)
        stops = tuple(s for s in handle_stop_sequences(settings.pop("until", None), None) if s)
        asked = min(settings.pop("max_gen_toks"), self.max_new_tokens or sys.maxsize)
        prompt = self.encode(text) or [self._first_id()]
        fits = len(prompt) + asked <= self.max_length
        budget = asked if fits else min(asked, max(1, self.max_length // 2))
        if len(prompt) + budget > self.max_length:
            self._mark_cut(request)
            prompt = self._keep_end(prompt, self.max_length - budget)
        sampling = json.dumps(settings, sort_keys=True)
        return _Generation(prompt, budget, budget < asked, stops, sampling)

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

    def _mark_cut(self, request: Instance) -> None:
        self.cut.add((request.task_name, request.doc_id))

    # ---- the model

    def _batches(self, items: Iterable[Any], key: Callable[[Any], int]) -> Iterator[list[Any]]:
        """Batches of similar length, the longest first: what does not fit memory fails at once."""
        ordered = sorted(items, key=key, reverse=True)
        with tqdm(total=len(ordered), desc=self.label, leave=False, disable=None) as bar:
            for start in range(0, len(ordered), self.batch_size):
                batch = ordered[start : start + self.batch_size]
                yield batch
                bar.update(len(batch))

    @torch.no_grad()
    def _log_probabilities(
        self, batch: Sequence[Sequence[int]], needed: Sequence[int]
    ) -> list[torch.Tensor]:
        """Per row, log p of every token at its last ``needed`` positions: needed × v float32.

        Rows are padded on the right, where a causal model does not look; logits are computed only
        from the first position that any row needs, or the vocabulary would fill the memory.
        """
        width = max(map(len, batch))
        keep = width - min(len(ids) - n for ids, n in zip(batch, needed, strict=True))
        padded = [[*ids, *[0] * (width - len(ids))] for ids in batch]
        inputs = torch.tensor(padded, device=self.model.device)
        logits = self.model(inputs, use_cache=False, logits_to_keep=keep).logits
        ends = [len(ids) - (width - keep) for ids in batch]
        return [
            torch.log_softmax(row[end - n : end].float(), dim=-1).cpu()
            for row, end, n in zip(logits, ends, needed, strict=True)
        ]

    @torch.no_grad()
    def _generate(self, plans: Sequence[_Generation]) -> list[tuple[str, bool]]:
        """Per row the answer, and whether it ended by itself."""
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
            self._finish(plan, row[:end], stopped=end is not None)
            for plan, row, end in zip(plans, new, stop.ends, strict=True)
        ]

    def _finish(self, plan: _Generation, new: Tokens, stopped: bool) -> tuple[str, bool]:
        ends = [i for i, token in enumerate(new) if token in self._end_ids()]
        new = new[: ends[0]] if ends else new
        # Decoded behind the prompt: on its own, some tokenizers drop an answer's leading space.
        tail = plan.prompt[-PROMPT_TAIL:]
        text = self._decode(tail + new)[len(self._decode(tail)) :]
        for term in plan.stops:
            text = text.partition(term)[0]
        return text, stopped or bool(ends)

    def _decode(self, ids: Tokens) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _generation_config(self, plan: _Generation) -> GenerationConfig:
        ends = self._end_ids()
        pad = self.tokenizer.pad_token_id
        return GenerationConfig(
            **{"num_beams": 1, "repetition_penalty": 1.0, **json.loads(plan.sampling)},
            max_new_tokens=plan.budget,
            eos_token_id=ends or None,
            pad_token_id=pad if pad is not None else next(iter(ends), 0),
        )

    def _end_ids(self) -> list[int]:
        """The tokenizer's end token, the one answers were trained to end with, the model's own."""
        own = getattr(self.model.generation_config, "eos_token_id", None)
        trained = self.renderer.end_id  # a chat template's, which need not be the tokenizer's
        ids = [self.tokenizer.eos_token_id, trained, *(own if isinstance(own, list) else [own])]
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


def _starts_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer itself begins what it is given with bos."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer.encode("a")[:1] == [bos]


def _read_off(log_p: torch.Tensor, continuation: Tokens) -> tuple[float, bool]:
    """Sum the log-probabilities of a continuation that ends with the last row of ``log_p``."""
    rows = log_p[log_p.shape[0] - len(continuation) :]
    wanted = torch.tensor(continuation)
    chosen = rows.gather(1, wanted[:, None]).double().sum().item()
    return chosen, bool((rows.argmax(dim=1) == wanted).all())
