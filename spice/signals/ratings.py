"""How a model grades each row when it is asked to."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spice.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from spice.data.batches import Batch
    from spice.data.rendering import Example, Renderer
    from spice.gradients.work import Work
    from spice.models.checkpoint import Checkpoint
    from spice.models.tokenized import Reading
    from spice.records import Row
    from spice.signals.source import Source

LEVELS = ("1", "2", "3", "4", "5")


@dataclass
class Ratings:
    """Next-token probabilities of "1" to "5" behind each of q requests to grade, n × q × 5.

    A request is asked in the template of the pool, with the row's prompt and response in place of
    ``{instruction}`` and ``{response}``. A row for which a request does not fit the context stays
    NaN.
    """

    requests: Sequence[str]

    def fingerprint(self) -> dict[str, Any]:
        """The requests' wording."""
        return {"signal": "ratings", "requests": list(self.requests)}

    def texts(
        self, renderer: Renderer, rows: Sequence[Row], examples: Sequence[Example]
    ) -> list[list[Example]]:
        """Each request's prompt; none of a row's if one is too long."""
        from spice.data.rendering import Example

        self.ids = digit_ids(renderer)
        none = [Example([], 0)] * len(self.requests)
        found = []
        for row in rows:
            prompts = [self._prompt(renderer, row, request) for request in self.requests]
            fits = max(map(len, prompts)) < renderer.max_tokens
            found.append([Example(ids, len(ids)) for ids in prompts] if fits else none)
        return found

    def _prompt(self, renderer: Renderer, row: Row, request: str) -> list[int]:
        content = request.replace("{response}", row.response).replace("{instruction}", row.prompt)
        asked = replace(row, instruction=content, input="", history=(), system="")
        return renderer.prompt_ids(renderer.prompt_text(asked.messages()))

    def width(self, model: Any) -> int:
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
class Panel:
    """The :class:`Ratings` of the proxy and of further ``checkpoints``, n × models × q × 5."""

    requests: Sequence[str]
    checkpoints: Sequence[Checkpoint]

    def fingerprint(self) -> dict[str, Any]:
        """The requests' wording; the checkpoints are told by their views."""
        return {"signal": "ratings", "requests": list(self.requests)}

    def build(self, folder: Path, source: Source) -> None:
        """Ask one model after the other."""
        found = []
        for place, reading in enumerate(_readings(source, self.checkpoints)):
            source.say(f"model {place + 1} of {1 + len(self.checkpoints)}")
            store, key = folder / f"store-{place}", {**self.fingerprint(), **reading.view}
            model = reading.checkpoint.load()
            found.append(source.forward(model, Ratings(self.requests), store, key, reading=reading))
        np.save(folder / "ratings.npy", np.stack(found, axis=1))
        for store in folder.glob("store-*"):
            shutil.rmtree(store)

    def work(self, source: Source) -> list[Work]:
        """Every request of every model."""
        from spice.gradients.work import forward

        ratings = Ratings(self.requests)
        return [
            forward(r, ratings.texts(r.renderer, source.rows, r.examples))
            for r in _readings(source, self.checkpoints)
        ]

    def load(self, folder: Path) -> np.ndarray:
        """n × models × q × 5."""
        return np.load(folder / "ratings.npy", allow_pickle=False)


@dataclass(frozen=True)
class RaterSizes:
    """The number of parameters of the proxy and of further ``checkpoints``, one each."""

    checkpoints: Sequence[Checkpoint]

    def fingerprint(self) -> dict[str, Any]:
        """Nothing but what it is; the checkpoints are told by their views."""
        return {"signal": "rater sizes"}

    def build(self, folder: Path, source: Source) -> None:
        """Count, from the configurations alone."""
        raters = [reading.checkpoint for reading in _readings(source, self.checkpoints)]
        sizes = [rater.skeleton().num_parameters() for rater in raters]
        np.save(folder / "sizes.npy", np.array(sizes, dtype=np.float64))

    def work(self, source: Source) -> list[Work]:
        """None: nothing is read."""
        return []

    def load(self, folder: Path) -> np.ndarray:
        """One number per model."""
        return np.load(folder / "sizes.npy", allow_pickle=False)


def _readings(source: Source, checkpoints: Sequence[Checkpoint]) -> list[Reading]:
    return [source.reading, *map(source.reading_of, checkpoints)]


def digit_ids(renderer: Renderer) -> list[int]:
    """The token of each level, looked up: every tokenizer has them elsewhere."""
    ids = []
    for level in LEVELS:
        found = renderer.continuation(level)
        if len(found) != 1:
            raise InputError(f"the tokenizer has no single token for the grade {level!r}")
        ids.append(found[0])
    return ids
