"""How a model grades each row when it is asked to."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spice.data.rendering import Example
from spice.distributed.per_rank import PerRank
from spice.errors import InputError
from spice.gradients import work
from spice.progress import counted
from spice.signals.base import Signal
from spice.signals.forward import ForwardSignal, read_off
from spice.storage.files import write_array

if TYPE_CHECKING:
    from torch import Tensor

    from spice.data.batches import Batch
    from spice.data.rendering import Renderer
    from spice.gradients.extraction import Extraction
    from spice.gradients.work import Work
    from spice.models.checkpoint import Checkpoint
    from spice.models.tokenized import Tokenized
    from spice.records import Row
    from spice.signals.source import Source

LEVELS = ("1", "2", "3", "4", "5")


@dataclass
class Ratings(ForwardSignal):
    """Next-token probabilities of "1" to "5" behind each of q requests to grade, n × q × 5.

    A request is asked in the template of the pool, with the row's prompt and response in place of
    ``{instruction}`` and ``{response}``. A conversation is graded by its last answer that is
    learnt and the user turn before it, alone. A row for which a request does not fit the context
    stays NaN.
    """

    requests: Sequence[str]

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """The requests' wording."""
        return {"signal": "ratings", "requests": list(self.requests)}

    def texts(
        self, renderer: Renderer, rows: Sequence[Row], examples: Sequence[Example]
    ) -> list[list[Example]]:
        """Each request's prompt; none of a row's if one is too long."""
        self.ids = digit_ids(renderer)
        none = [Example([], 0)] * len(self.requests)
        found = []
        for row in rows:
            prompts = [self._prompt(renderer, row, request) for request in self.requests]
            fits = max(map(len, prompts)) < renderer.max_tokens
            found.append([Example(ids, len(ids)) for ids in prompts] if fits else none)
        return found

    def _prompt(self, renderer: Renderer, row: Row, request: str) -> list[int]:
        row = row.up_to_last_taught()
        content = request.replace("{response}", row.response).replace("{instruction}", row.prompt)
        return renderer.asked_ids([{"role": "user", "content": content}])

    def width(self, config: Any) -> int:
        """One probability per level."""
        return len(LEVELS)

    def read(self, model: Any, batch: Batch) -> Tensor:
        """Probabilities of the levels over the whole vocabulary, b × 5."""
        import torch

        mask = batch["attention_mask"]
        with torch.no_grad():
            states = model.base_model(
                input_ids=batch["input_ids"], attention_mask=mask, use_cache=False
            ).last_hidden_state
            last = states[torch.arange(len(states)), mask.sum(dim=1) - 1]
            logits = model.get_output_embeddings()(last).float()
        return logits.softmax(dim=-1)[:, self.ids]

    def collect(self, values: np.ndarray) -> np.ndarray:
        """n × q × 5, as they are."""
        return values


@dataclass(frozen=True)
class Panel(Signal):
    """The :class:`Ratings` of the proxy and of further ``checkpoints``, n × models × q × 5."""

    requests: Sequence[str]
    checkpoints: Sequence[Checkpoint]

    def readers(self) -> Sequence[Checkpoint]:
        """They grade beside the proxy."""
        return self.checkpoints

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """The requests' wording; the checkpoints are told by their views."""
        return {"signal": "ratings", "requests": list(self.requests)}

    def build(self, folder: Path, source: Source) -> None:
        """Ask one model after the other."""
        found = []
        models = list(enumerate(_all(source, self.checkpoints)))
        for place, tokenized in counted(models, "", "models", lambda model: 0):
            source.say(f"model {place + 1} of {1 + len(self.checkpoints)}")
            store, about = folder / f"store-{place}", {**source.key, **tokenized.view}
            model, signal = PerRank(tokenized.checkpoint.load), Ratings(self.requests)
            found.append(read_off(model, signal, source, store, about, tokenized=tokenized))
        write_array(folder / "ratings.npy", np.stack(found, axis=1))
        for store in folder.glob("store-*"):
            shutil.rmtree(store)

    def work(self, source: Source) -> list[Work]:
        """Every request of every model."""
        ratings = Ratings(self.requests)
        return [
            work.forward(t, ratings.texts(t.renderer, source.rows, t.examples))
            for t in _all(source, self.checkpoints)
        ]

    def load(self, folder: Path, source: Source) -> np.ndarray:
        """n × models × q × 5."""
        return np.load(folder / "ratings.npy", allow_pickle=False)


@dataclass(frozen=True)
class RaterSizes(Signal):
    """The number of parameters of the proxy and of further ``checkpoints``, one each."""

    checkpoints: Sequence[Checkpoint]

    def readers(self) -> Sequence[Checkpoint]:
        """They grade beside the proxy."""
        return self.checkpoints

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """Nothing but what it is; the checkpoints are told by their views."""
        return {"signal": "rater sizes"}

    def build(self, folder: Path, source: Source) -> None:
        """Count, from the configurations alone."""
        raters = [tokenized.checkpoint for tokenized in _all(source, self.checkpoints)]
        sizes = [rater.skeleton().num_parameters() for rater in raters]
        write_array(folder / "sizes.npy", np.array(sizes, dtype=np.float64))

    def work(self, source: Source) -> list[Work]:
        """None: nothing is read."""
        return []

    def load(self, folder: Path, source: Source) -> np.ndarray:
        """m numbers, one of each model."""
        return np.load(folder / "sizes.npy", allow_pickle=False)


def _all(source: Source, checkpoints: Sequence[Checkpoint]) -> list[Tokenized]:
    """The pool as each of the models reads it, the proxy first."""
    return [source.tokenized, *map(source.tokenized_by, checkpoints)]


def digit_ids(renderer: Renderer) -> list[int]:
    """The token of each level, looked up: every tokenizer has them elsewhere.

    Raises:
        InputError: the tokenizer writes a level in several tokens.
    """
    ids = []
    for level in LEVELS:
        found = renderer.continuation(level)
        if len(found) != 1:
            raise InputError(f"the tokenizer has no single token for the grade {level!r}")
        ids.append(found[0])
    return ids
