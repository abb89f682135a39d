"""A live model behind lm-eval's interface, and lm-eval made quiet, offline and safe.

What is measured is lm-eval's: its tasks, prompts, filters, metrics and aggregation. How a model is
asked is ours, because the harness's own wrapper reloads models, loses or doubles bos when it cuts
a prompt, and stops with an error where an answer might not fit the context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from lm_eval.api.model import LM
from tqdm import tqdm

from spice.data.batch_limit import BatchLimit
from spice.evaluation.context import Context, Pair
from spice.evaluation.generation import Writer
from spice.models.head import token_choices
from spice.models.memory import Kind
from spice.models.room import Room

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from spice.data.rendering import Renderer

T = TypeVar("T")


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
        self.rooms: dict[Kind, Room] = {}
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
        for _, made in self._batches(
            sharing, len, "passing", lambda part: self._choices(part, sharing, pairs)
        ):
            answers.update(made)
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
            for batch, made in self._batches(
                members,
                lambda i: len(plans[i].prompt) + plans[i].budget,
                "writing",
                lambda part: self.writer.write([plans[i] for i in part]),
            ):
                for i, (text, ended) in zip(batch, made, strict=True):
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

    def _batches(
        self,
        items: Iterable[Any],
        length: Callable[[Any], int],
        kind: Kind,
        act: Callable[[list[Any]], T],
    ) -> Iterator[tuple[list[Any], T]]:
        """What is made of batches of similar length, the longest first, and of which items.

        What does not fit memory fails at once, and is tried again in halves.
        """
        ordered = sorted(items, key=length, reverse=True)
        room = self._room(kind)
        with tqdm(total=len(ordered), desc=self.label, leave=False, disable=None) as bar:

            def take(rows: slice) -> tuple[list[Any], T]:
                batch = ordered[start + rows.start : start + rows.stop]
                made = act(batch)
                bar.update(len(batch))
                return batch, made

            for start in range(0, len(ordered), self.batch_size):
                near = ordered[start : start + self.batch_size]
                yield from room.of_lengths(take, [length(item) for item in near])

    def _room(self, kind: Kind) -> Room:
        """What a batch may hold; it is asked once for each kind of pass."""
        if kind not in self.rooms:
            self.rooms[kind] = Room(self.model, BatchLimit(self.batch_size), kind)
        return self.rooms[kind]

    def _choices(
        self,
        batch: Sequence[tuple[int, ...]],
        sharing: dict[tuple[int, ...], list[int]],
        pairs: Sequence[Pair],
    ) -> dict[int, tuple[float, bool]]:
        """Of each pair that shares a row: log p of its continuation, and whether it is likeliest.

        Rows are padded on the right, where a causal model does not look; only where a
        continuation's tokens are predicted are logits made.
        """
        width = max(map(len, batch))
        padded = [[*ids, *[0] * (width - len(ids))] for ids in batch]
        asked = [(i, row) for row, ids in enumerate(batch) for i in sharing[ids]]
        counts = [len(pairs[i].continuation) for i, _ in asked]
        places = [
            row * width + len(batch[row]) - count + k
            for (_, row), count in zip(asked, counts, strict=True)
            for k in range(count)
        ]
        targets = [token for i, _ in asked for token in pairs[i].continuation]
        inputs, where, wanted = (
            torch.tensor(part, device=self.model.device) for part in (padded, places, targets)
        )
        log_p, first = token_choices(self.model, {"input_ids": inputs}, where, wanted)
        parts = zip(log_p.double().split(counts), first.split(counts), strict=True)
        return {
            i: (part.sum().item(), bool(likeliest.all()))
            for (i, _), (part, likeliest) in zip(asked, parts, strict=True)
        }
