"""LEAD's rounds: the proxy trained on what each of them chooses."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader, IterableDataset

from spice.data.batch_limit import BatchLimit
from spice.data.rendering import Example
from spice.distributed import team
from spice.records import Selection
from spice.schedules.learning_proxy import LearningProxy, go_through
from spice.selectors.lead import Rounds

if TYPE_CHECKING:
    from typing import Any

    from peft import PeftModel
    from torch import Tensor

    from spice.distributed.per_rank import PerRank


class RoundNumbers(IterableDataset):
    """0, 1, 2 … from a start on; the module says when it is enough."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start)


class RoundByRound(LearningProxy):
    """Draws a round, trains the proxy on its rows, and tells the rounds what came of it.

    Everything is kept after each round, in which a run that was killed takes up again.
    """

    def __init__(
        self,
        model: PeftModel,
        rounds: Rounds,
        examples: Sequence[Example],
        *,
        limit: BatchLimit,
        folder: Path,
        pad_id: int,
        seed: int,
    ) -> None:
        super().__init__(
            model,
            examples,
            learning_rate=rounds.options.learning_rate,
            weight_decay=0.0,
            limit=limit,
            folder=folder,
            pad_id=pad_id,
            seed=seed,
        )
        self.rounds = rounds
        self.first_changes: dict[int, Tensor] = {}  # of the last layer, by cluster
        self.last_change: Tensor | None = None
        if progress := self.resume():
            self.first_changes = progress.pop("first_changes")
            self.last_change = progress.pop("last_change")
            rounds.restore(progress)

    def train_dataloader(self) -> DataLoader:
        """The numbers of the rounds to come."""
        return DataLoader(RoundNumbers(self.rounds.number), batch_size=None)

    def training_step(self, number: int, batch_idx: int) -> None:
        """One round, whole or not at all."""
        drawn, where = self.rounds.draw(), f"round {number + 1}"
        before, there = self.losses(drawn.rows, where), self._last_layer()
        step = self.rounds.options.batch_size
        for start in range(0, len(drawn.rows), step):
            self.learn(drawn.rows[start : start + step], 1_000 * number + start, where)
        change = self._last_layer() - there
        drop = float((before - self.losses(drawn.rows, where)).mean())
        cosine = _cosine(self.first_changes.get(drawn.cluster), self.last_change)
        picked = len(self.rounds.picks)
        self.rounds.observe(drawn, before, drop, cosine)
        self.tell(len(self.rounds.picks) - picked)
        self.first_changes.setdefault(drawn.cluster, change)
        self.last_change = change
        self.save(
            {
                **self.rounds.progress(),
                "first_changes": self.first_changes,
                "last_change": self.last_change,
            }
        )
        if self.rounds.done:
            self.trainer.should_stop = True

    def _last_layer(self) -> Tensor:
        """The adapter's parameters in the last layer, as its authors take them."""
        layers = {name: re.search(r"\.(\d+)\.", name) for name in self.adapter()}
        numbers = {name: int(found[1]) if found else -1 for name, found in layers.items()}
        last = max(numbers.values())
        chosen = [p for name, p in self.adapter().items() if numbers[name] == last]
        return torch.cat([parameter.detach().flatten().cpu().clone() for parameter in chosen])


def choose(made: PerRank[RoundByRound], trainer: dict[str, Any], here: None) -> Selection | None:
    """Go through the rounds that are left; what they chose, of the run."""
    module = made()
    if not module.rounds.done:
        go_through(module, trainer, len(module.rounds.picks), module.rounds.k, "picks")
    return module.rounds.selection() if team.is_first() else None


def _cosine(one: Tensor | None, other: Tensor | None) -> float:
    if one is None or other is None:
        return 0.0
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0).clamp(-1, 1))
