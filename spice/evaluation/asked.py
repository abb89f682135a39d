"""A model that answers: what a process does of the questions that a benchmark asks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch

from spice.data.batch_limit import BatchLimit
from spice.distributed import team
from spice.evaluation.generation import Generation, Tokens, Writer
from spice.models.head import token_choices
from spice.models.room import Room
from spice.progress import progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from spice.distributed.per_rank import PerRank

Answer = tuple[float, bool] | tuple[str, bool]


class Question(NamedTuple):
    """A text, and what may stand at its end: all but the last token of each continuation does."""

    ids: tuple[int, ...]
    continuations: Sequence[Tokens]

    @property
    def length(self) -> int:
        """Tokens that the model reads."""
        return len(self.ids)


class Asked:
    """A model with all that answering takes; ``batch_size`` rows at most go through it at once.

    Where a task samples, ``seed`` and the batch's number decide what is drawn, so that it does not
    matter who answers it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        end_id: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.model: Any = model
        self.writer = Writer(model, tokenizer, end_id)
        self.batch_size = batch_size
        self.seed = seed
        self.rooms: dict[str, Room] = {}

    def choices(self, batch: Sequence[Question], number: int = 0) -> list[list[tuple[float, bool]]]:
        """Of each continuation: log p in nats, and whether greedy decoding would write it.

        Rows are padded on the right, where a causal model does not look; only where a
        continuation's tokens are predicted are logits made.
        """
        width = max(question.length for question in batch)
        padded = [[*question.ids, *[0] * (width - question.length)] for question in batch]
        asked = [(row, continuation) for row, question in enumerate(batch)
                 for continuation in question.continuations]  # fmt: skip
        counts = [len(continuation) for _, continuation in asked]
        places = [
            row * width + batch[row].length - count + k
            for (row, _), count in zip(asked, counts, strict=True)
            for k in range(count)
        ]
        targets = [token for _, continuation in asked for token in continuation]
        inputs, where, wanted = (
            torch.tensor(part, device=self.model.device) for part in (padded, places, targets)
        )
        log_p, first = token_choices(self.model, {"input_ids": inputs}, where, wanted)
        parts = zip(log_p.double().split(counts), first.split(counts), strict=True)
        answers: list[list[tuple[float, bool]]] = [[] for _ in batch]
        for (row, _), (part, likeliest) in zip(asked, parts, strict=True):
            answers[row].append((part.sum().item(), bool(likeliest.all())))
        return answers

    def texts(self, batch: Sequence[Generation], number: int = 0) -> list[tuple[str, bool]]:
        """Of each prompt: what the model writes behind it, and whether it ended by itself.

        ``number`` tells apart batches that are asked together, which may repeat a prompt.
        """
        if not json.loads(batch[0].sampling).get("do_sample"):
            return self.writer.write(batch)
        with torch.random.fork_rng():
            draw = np.random.SeedSequence([self.seed, number]).generate_state(1)
            torch.manual_seed(int(draw[0]))
            return self.writer.write(batch)

    def room(self, kind: Literal["passing", "writing"]) -> Room:
        """What a batch may hold; it is asked once for each kind of pass."""
        if kind not in self.rooms:
            self.rooms[kind] = Room(self.model, BatchLimit(self.batch_size), kind)
        return self.rooms[kind]


def asked_of(
    model: PerRank[PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    end_id: int,
    batch_size: int,
    seed: int,
) -> Asked:
    """A process's own, on its own device."""
    made: Any = model()
    if team.on_gpus():
        made.to(f"cuda:{team.local_rank()}")
    return Asked(made, tokenizer, end_id, batch_size, seed)


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """The model in evaluation mode, every part of it back in its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def answer(
    asked: PerRank[Asked],
    kind: Literal["passing", "writing"],
    batches: Sequence[Sequence[Any]],
    label: str,
    here: None,
) -> list[list[Any]]:
    """This process's share of the batches, each with an answer for each of its rows.

    What does not fit memory is tried again in halves.
    """
    me, mine = asked(), team.share(batches)
    if not mine:
        return []
    act = me.choices if kind == "passing" else me.texts
    found, total, tokens = [], sum(map(len, mine)), sum(_cost(kind, batch) for batch in mine)
    with (
        progress(label, total, team.of_mine("questions"), tokens) as tell,
        evaluating(me.model),
    ):
        for place, batch in enumerate(mine):
            number = (team.rank() + place * team.size()) * me.batch_size

            def take(rows: slice, batch: Sequence[Any] = batch, number: int = number) -> list[Any]:
                made = act(batch[rows], number + rows.start)
                tell(len(made), _cost(kind, batch[rows]))
                return made

            parts = me.room(kind).of_lengths(take, [item.length for item in batch])
            found.append([made for part in parts for made in part])
    return found


def _cost(kind: Literal["passing", "writing"], items: Sequence[Any]) -> int:
    """Tokens that are read; what is written behind a prompt takes as long whatever its length."""
    return sum(item.length for item in items) if kind == "passing" else len(items)
