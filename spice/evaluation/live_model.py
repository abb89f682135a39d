"""A live model behind lm-eval's interface, and lm-eval made quiet, offline and safe.

What is measured is lm-eval's: its tasks, prompts, filters, metrics and aggregation. How a model is
asked is ours, because the harness's own wrapper reloads models, loses or doubles bos when it cuts
a prompt, and stops with an error where an answer might not fit the context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.api.model import LM
from tqdm import tqdm

from spice.evaluation.context import Context, Pair
from spice.evaluation.generation import Tokens, Writer

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from spice.data.rendering import Renderer


class LiveModel(LM):
    """A model and tokenizer in memory, as lm-eval wants to see them.

    What does not fit ``max_length`` is shortened as :class:`spice.evaluation.context.Context` says,
    answers are written by :class:`spice.evaluation.generation.Writer`. ``cut`` collects the (task,
    document) pairs that lost something: part of the prompt, part of a choice, or the end of an
    answer that was still going on where the room ended.
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
        self.renderer = renderer
        self.context = Context(tokenizer, renderer, max_length, chat, max_new_tokens)
        self.writer = Writer(model, tokenizer, renderer)
        self.batch_size = batch_size
        self.label = label
        self.cut: set[tuple[str | None, int | None]] = set()

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

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """log p(continuation | context) in nats, and whether greedy decoding would write it."""
        pairs = [self._pair(request) for request in requests]
        # Continuations that differ in their last token only share one pass through the model.
        sharing: dict[tuple[int, ...], list[int]] = {}
        for i, pair in enumerate(pairs):
            sharing.setdefault((*pair.context, *pair.continuation[:-1]), []).append(i)
        answers: dict[int, tuple[float, bool]] = {}
        for batch in self._batches(sharing, key=len):
            needed = [max(len(pairs[i].continuation) for i in sharing[ids]) for ids in batch]
            for ids, log_p in zip(batch, self._log_probabilities(batch, needed), strict=True):
                for i in sharing[ids]:
                    answers[i] = _read_off(log_p, pairs[i].continuation)
        return [answers[i] for i in range(len(requests))]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Not offered: perplexity over windows depends on how they are cut."""
        raise NotImplementedError("perplexity tasks are not supported")

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answers, each up to its first stop."""
        plans = [self.context.generation(*request.args) for request in requests]
        # Equal budgets only, so that a padded batch never grows beyond the context.
        alike: dict[tuple[Any, ...], list[int]] = {}
        for i, plan in enumerate(plans):
            alike.setdefault((plan.budget, plan.stops, plan.sampling), []).append(i)
        answers: dict[int, str] = {}
        for members in alike.values():
            for batch in self._batches(members, key=lambda i: len(plans[i].prompt)):
                written = self.writer.write([plans[i] for i in batch])
                for i, (text, ended) in zip(batch, written, strict=True):
                    answers[i] = text
                    if plans[i].cut or (plans[i].shortened and not ended):
                        self._mark_cut(requests[i])
        return [answers[i] for i in range(len(requests))]

    def _pair(self, request: Instance) -> Pair:
        pair = self.context.pair(*request.args)
        if pair.cut:
            self._mark_cut(request)
        return pair

    def _mark_cut(self, request: Instance) -> None:
        self.cut.add((request.task_name, request.doc_id))

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


def _read_off(log_p: torch.Tensor, continuation: Tokens) -> tuple[float, bool]:
    """Sum the log-probabilities of a continuation that ends with the last row of ``log_p``."""
    rows = log_p[log_p.shape[0] - len(continuation) :]
    wanted = torch.tensor(continuation)
    chosen = rows.gather(1, wanted[:, None]).double().sum().item()
    return chosen, bool((rows.argmax(dim=1) == wanted).all())
