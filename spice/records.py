"""What one stage hands to the next.

Axes, throughout the project: ``n`` rows of the pool, ``d`` gradient coordinates, ``k`` picks,
``b`` rows of a batch, ``t`` tokens of a row.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Row:
    """One example of an instruction-tuning pool.

    ``id`` is a hash of the text (see :func:`row_id`), so it survives shuffling, merging
    and renaming of files; exact copies of a row are told apart by a suffix.
    """

    id: str
    instruction: str
    input: str
    response: str
    source: str
    history: tuple[tuple[str, str], ...] = ()
    system: str = ""

    @property
    def prompt(self) -> str:
        """The user's last turn: the instruction, and the input below it where there is one."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction

    def messages(self) -> list[dict[str, str]]:
        """All turns before the response, in the form that chat templates take."""
        turns = [{"role": "system", "content": self.system}] if self.system else []
        for user, assistant in self.history:
            turns.append({"role": "user", "content": user})
            turns.append({"role": "assistant", "content": assistant})
        return [*turns, {"role": "user", "content": self.prompt}]

    def as_dict(self) -> dict[str, Any]:
        """The row as a JSON object, empty optional fields left out."""
        record = dataclasses.asdict(self)
        record["history"] = [list(turn) for turn in self.history]
        return {k: v for k, v in record.items() if v or k not in {"history", "system"}}


def row_id(
    system: str,
    history: Sequence[Sequence[str]],
    instruction: str,
    input: str,
    response: str,
) -> str:
    """Hash a row's text: 16 hexadecimal digits of SHA-256, the same on every machine."""
    text = json.dumps([system, [list(turn) for turn in history], instruction, input, response])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Signals:
    """What can be read off a model over a pool; a selector is handed only what it asked for.

    ``ids`` n, ``sources`` n, ``lengths`` n (supervised response tokens; 0 where no model was
    read), ``gradients`` n × d float32 per-sample gradients, or None. ``losses`` and
    ``experienced_losses`` n × 2, ``ratings`` n × q × 5 (of several models n × models × q × 5, with
    their ``rater_sizes``), ``embeddings`` n × h, ``token_information`` n × h(h+1)/2 and
    ``influence`` n, with a named column per subtask, are as :mod:`spice.signals` has them, NaN for
    rows not read; ``target_embeddings`` m × h are of the validation examples, and
    ``target_sources`` m the (sub)tasks that those are of. ``reliability`` is a table of n rows
    (:data:`spice.signals.reliability.FIELDS`).
    """

    ids: list[str]
    sources: list[str]
    lengths: np.ndarray
    gradients: np.ndarray | None = None
    losses: np.ndarray | None = None
    experienced_losses: np.ndarray | None = None
    ratings: np.ndarray | None = None
    rater_sizes: np.ndarray | None = None
    embeddings: np.ndarray | None = None
    token_information: np.ndarray | None = None
    influence: np.ndarray | None = None
    target_embeddings: np.ndarray | None = None
    target_sources: np.ndarray | None = None
    reliability: np.ndarray | None = None

    @property
    def weights(self) -> np.ndarray | None:
        """How far each row is to be trusted, n, if that was asked for."""
        return None if self.reliability is None else self.reliability["weight"]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Selection:
    """k picks out of n rows, in the order of picking.

    ``indices`` are positions in the pool, ``scores`` what the method ranked each pick by. For
    greedy selectors, per pick: ``gains`` Δ, ``bases`` Δ(∅), ``epsilons`` Δ − base (never positive)
    and ``conflicts`` c in [0, 1]; None elsewhere. ``information`` is F(S) in nats, ``certificate``
    how far from the best k rows it can be (:mod:`spice.submodular.certificate`).
    ``without_penalty`` is what λ = 0 would have picked, None where λ is 0 or there is none.
    ``weights`` say how far each pick was trusted, ``without_weights`` is what would have been
    picked had all rows been trusted alike; both None where rows are not weighed.
    ``notes`` are what its owner should know of how it came about.
    ``trace`` holds what diagnostics need and no file keeps.
    """

    n: int
    indices: list[int]
    scores: list[float] | None = None
    gains: list[float] | None = None
    conflicts: list[float] | None = None
    bases: list[float] | None = None
    epsilons: list[float] | None = None
    information: float | None = None
    alpha: float | None = None
    certificate: dict[str, Any] | None = None
    without_penalty: list[int] | None = None
    weights: list[float] | None = None
    without_weights: list[int] | None = None
    excluded: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    trace: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def k(self) -> int:
        """The number of picks."""
        return len(self.indices)


@dataclass(frozen=True)
class Score:
    """One benchmark's result. ``value`` is None where the benchmark was skipped, never 0.

    ``value`` and ``stderr`` are in the metric's own unit (a share in [0, 1] for all built-in
    benchmarks); ``n`` counts scored items, ``cut`` those whose prompt or answer did not fit the
    model's context; ``subtasks`` holds the same for each part of a group.
    """

    benchmark: str
    value: float | None
    stderr: float | None
    metric: str
    shots: int | None
    n: int
    version: str | None = None
    cut: int = 0
    excluded: int = 0
    skipped: str | None = None
    subtasks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The score as a JSON object, without the benchmark's name and empty remarks."""
        record = dataclasses.asdict(self)
        record.pop("benchmark")
        optional = {"skipped", "subtasks", "cut", "excluded"}
        return {k: v for k, v in record.items() if v or k not in optional}
