"""What one stage hands to the next.

Axes, throughout the project: ``n`` rows of the pool, ``d`` gradient coordinates, ``k`` picks,
``b`` rows of a batch, ``t`` tokens of a row, ``m`` validation examples or others beside the pool,
``h`` hidden size, ``p`` projected coordinates, ``q`` requests, ``v`` voters.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from spice.errors import InputError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Row:
    """One example of an instruction-tuning pool.

    ``id`` is a hash of the text (see :func:`row_id`), so it survives shuffling, merging
    and renaming of files; exact copies of a row are told apart by a suffix. ``taught`` says of each
    answer, the history's first and the response last, whether it is to be learnt; empty: all are.
    """

    id: str
    instruction: str
    input: str
    response: str
    source: str
    history: tuple[tuple[str, str], ...] = ()
    system: str = ""
    taught: tuple[bool, ...] = ()

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

    def text_id(self) -> str:
        """The hash of its text, which its id begins with."""
        return row_id(
            self.system, self.history, self.instruction, self.input, self.response, self.taught
        )

    def learnt(self, *, last_alone: bool = False) -> list[bool]:
        """Of each answer, the response last, whether it is to be learnt.

        With ``last_alone`` the answers of the history are not, whatever the row says.
        """
        said = list(self.taught) or [True] * (len(self.history) + 1)
        return [False] * (len(said) - 1) + said[-1:] if last_alone else said

    def up_to_last_taught(self) -> Row:
        """The same conversation without the turns behind the last answer that is to be learnt."""
        if not any(self.taught):
            return self
        last = max(turn for turn, learn in enumerate(self.taught) if learn)
        if last == len(self.history):
            return self
        prompt, response = self.history[last]
        return dataclasses.replace(
            self,
            instruction=prompt,
            input="",
            response=response,
            history=self.history[:last],
            taught=self.taught[: last + 1],
        )

    def as_dict(self) -> dict[str, Any]:
        """The row as a JSON object, empty optional fields left out."""
        record = dataclasses.asdict(self)
        record["history"] = [list(turn) for turn in self.history]
        return {k: v for k, v in record.items() if v or k not in {"history", "system", "taught"}}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Row:
        """The row that :meth:`as_dict` gave.

        Raises:
            TypeError: a field is missing, or is none of a row's.
        """
        history = tuple((user, assistant) for user, assistant in record.get("history", ()))
        return cls(**{**record, "history": history, "taught": tuple(record.get("taught", ()))})


def row_id(
    system: str,
    history: Sequence[Sequence[str]],
    instruction: str,
    input: str,
    response: str,
    taught: Sequence[bool] = (),
) -> str:
    """Hash a row's text: 16 hexadecimal digits of SHA-256, the same on every machine."""
    parts = [system, [list(turn) for turn in history], instruction, input, response]
    text = json.dumps(parts if all(taught) else [*parts, list(taught)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def text_of(id: str) -> str:
    """The part of an id that exact copies of a row share."""
    return id.partition("#")[0]


class Signals:
    """What is known of a pool's n rows, and what was read off a model for them, by name.

    ``ids`` n, ``sources`` n, and ``lengths`` n (supervised response tokens; 0 where no model was
    read) are always there. ``signals["losses"]`` is what the selector's ``needs`` name so: an array
    whose rows are the pool's, unless its signal says otherwise (:mod:`spice.signals`), NaN for rows
    not read.
    """

    def __init__(
        self, ids: list[str], sources: list[str], lengths: np.ndarray, **read: Any
    ) -> None:
        self.ids = ids
        self.sources = sources
        self.lengths = lengths
        self._read = read

    def __getitem__(self, name: str) -> Any:
        """A signal's array.

        Raises:
            KeyError: nobody asked for it.
        """
        if name not in self._read:
            raise KeyError(f"{name} was not read: the selector's needs do not name it")
        return self._read[name]

    def __contains__(self, name: str) -> bool:
        return name in self._read

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def weights(self) -> np.ndarray | None:
        """How far each row is to be trusted, n, if that was asked for."""
        return self["reliability"]["weight"] if "reliability" in self else None


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
    ``partitions`` tell in how many parts a greedy went, None where there is none.
    ``penalty`` is λ, None where the method has none. ``notes`` are what its owner should know of
    how it came about.
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
    penalty: float | None = None
    certificate: dict[str, Any] | None = None
    without_penalty: list[int] | None = None
    weights: list[float] | None = None
    without_weights: list[int] | None = None
    partitions: dict[str, Any] | None = None
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
    model's context; ``subtasks`` holds the same for each part of a group. ``unguarded`` is what
    generated code was not kept from, in one line.
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
    unguarded: str | None = None
    subtasks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The score as a JSON object, without the benchmark's name and empty remarks."""
        record = dataclasses.asdict(self)
        record.pop("benchmark")
        optional = {"skipped", "unguarded", "subtasks", "cut", "excluded"}
        return {k: v for k, v in record.items() if v or k not in optional}


class Diagnostics(TypedDict, total=False):
    """What ``selection_report.json`` holds; what a method does not have is absent or None."""

    rows: int  # of the pool
    information: float | None  # F(S) in nats
    alpha: float  # α, as a number even where it was relative
    alpha_median_norm: float  # α·median ‖g‖², below which Δ ranks by norm, not by novelty
    pool_conflict: float  # share of rows whose gradient is against the mean over the pool
    conflicting_share: float  # share of candidates with c > 0, mean over the picks but the first
    changed_by_penalty: int  # picks that λ = 0 would not have made
    penalty_leverage: float  # median of λ × the ten best's conflict spread, over their gain gap
    large_norm_share: float  # share of the picks among the pool's 5 % largest norms
    large_norm_picks: int  # as many
    norm_length_correlation: float | None  # Spearman, of ‖g‖ and the response's tokens
    picked_length_correlation: float | None  # Spearman, of being picked and the response's tokens
    median_length: dict[str, float]  # of the pool and of the picks, in tokens
    sources: dict[str, dict[str, float]]  # each one's share of the pool and of the picks
    mix_distance: float | None  # total variation between these shares
    excluded: dict[str, int]  # rows that could not be picked, by reason
    copies: int  # picks whose very text was picked before
    reliability: dict[str, Any]  # how far rows were trusted, without the rows themselves
    warnings: list[str]  # what its owner should know before drawing conclusions


class SelectionRecord(TypedDict):
    """What ``selection.json`` holds; lists of k are in the order of picking."""

    n: int  # rows of the pool
    k: int  # picks
    indices: list[int]  # k positions in the pool
    ids: list[str]  # k, which survive shuffling and merging of files
    scores: list[float] | None  # k, what the method ranked each pick by
    gains: list[float] | None  # k, Δ in nats given the picks before; None where there is no greedy
    conflicts: list[float] | None  # k, c in [0, 1] with the mean of the picks before
    bases: list[float] | None  # k, Δ(∅)
    epsilons: list[float] | None  # k, Δ − base
    information: float | None  # F(S) in nats
    alpha: float | None  # α, as a number even where it was relative
    certificate: dict[str, Any] | None  # how far from the best k rows it can be
    without_penalty: list[int] | None  # positions that λ = 0 would have picked
    weights: list[float] | None  # k, how far each pick was trusted
    without_weights: list[int] | None  # positions picked had all rows been trusted alike
    partitions: dict[str, Any] | None  # into how many parts the pool went, and what came of it
    excluded: dict[str, list[str]]  # ids that could not be picked, by reason
    selector: str  # the option of that name
    config: dict[str, Any]  # the run's whole configuration


def chosen_ids(folder: str, key: str) -> list[str]:
    """The ids that a run folder's selection holds; ``key`` is what names the folder.

    Raises:
        InputError: it holds none.
    """
    path = Path(folder).expanduser() / "selection.json"
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["ids"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{key}: {path} is no selection ({error})") from None


class ResultsRecord(TypedDict):
    """What ``results.json`` holds."""

    selector: str  # the option of that name
    budget: float  # that held: some selectors take all rows or none
    k: int  # rows chosen
    n: int  # rows of the pool
    seed: int
    model: str  # the target: the option, with the folder behind it if it is local
    proxy: str | None  # None where nothing was read off one
    scores: dict[str, dict[str, Any]]  # by benchmark, as :meth:`Score.as_dict` has them
    average: float | None  # over the benchmarks that were scored
    averaged_over: int
    selection: Diagnostics
    seconds: dict[str, float]  # by step, what was done within another counted once
    reused: list[str]  # steps and signals that were there already
    paid: dict[str, float]  # seconds by step and signal of whoever made it, be it another run
    keys: dict[str, Any]  # of every step, signal and benchmark: what tells this run from others
    tokens: dict[str, dict[str, Any]]  # by the model that reads them: their key, and if reused
    inputs: dict[str, str]  # hashes of the pool's rows and of the models' weights
    overrides: list[str]  # of the command line
    versions: dict[str, str]
    git: str | None  # the source tree's commit
    hardware: dict[str, Any]
