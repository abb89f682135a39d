"""Greedy runs that are kept: the picks of a longer one begin with those of every shorter one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spice.messages import say
from spice.storage import locks
from spice.storage.seals import is_sealed, publish_sealed
from spice.storage.stages import digest
from spice.submodular.greedy import GreedyTrace, Rounds

if TYPE_CHECKING:
    from spice.submodular.objective import Objective

LISTS = ("picks", "scores", "gains", "conflicts", "leverage")


class KeptRuns:
    """The runs on one set of gradients, one per λ, as files of ``folder``.

    ``inputs`` say what the gradients and the objective are. ``longest`` is the largest number of
    picks that is going to be asked for: a sweep over budgets then goes once through each λ,
    whatever budget comes first. Picks are places among the candidates, in the order of their ids.
    """

    def __init__(self, folder: Path, inputs: dict[str, Any], longest: int = 0) -> None:
        self.folder = folder
        self.inputs = inputs
        self.longest = longest

    def maximise(
        self,
        objective: Objective,
        k: int,
        penalty: float,
        *,
        stop_ratio: float | None = None,
        stop_inclusive: bool = False,
    ) -> GreedyTrace:
        """What the objective's own ``maximise`` finds, from a kept run if that goes far enough."""
        if objective.partition is not None:
            return self._in_rounds(objective, k, penalty, stop_ratio, stop_inclusive)
        rooms: dict[str, Any] = {}
        longest = self.longest
        if objective.rooms is not None:  # they depend on k: such a run serves no other budget
            rooms, longest = {"rooms": objective.rooms.as_dict()}, objective.rooms.total
        path = self.apart(**rooms).path(penalty)
        told = locks.telling(f"λ = {penalty:g}", lambda told: say("greedy", told))
        with locks.held(path.with_suffix(".locked"), told):
            known = load(path) if is_sealed(path) else GreedyTrace()
            far = known.complete or len(known.picks) >= k
            if not (far or (stop_ratio is not None and known.decays(stop_ratio))):
                known = objective.maximise(
                    max(k, longest), penalty, stop_ratio=stop_ratio, stop_inclusive=True
                )
                publish_sealed(path, lambda partial: save(known, partial))
        first = known.prefix(k)
        return first if stop_ratio is None else first.stopped(stop_ratio, stop_inclusive)

    def _in_rounds(
        self,
        objective: Objective,
        k: int,
        penalty: float,
        stop_ratio: float | None,
        stop_inclusive: bool,
    ) -> GreedyTrace:
        """Two rounds for k picks do not begin with those for fewer: such a run serves no other."""
        assert objective.partition is not None
        stopping = {"stop_ratio": stop_ratio, "stop_inclusive": stop_inclusive}
        rooms = {} if objective.rooms is None else {"rooms": objective.rooms.as_dict()}
        kept = self.of_parts(objective.partition.count, k, **stopping).apart(**rooms)
        path = kept.path(penalty)
        told = locks.telling(f"λ = {penalty:g}", lambda told: say("greedy", told))
        with locks.held(path.with_suffix(".locked"), told):
            if is_sealed(path):
                return load(path)
            found = objective.maximise(k, penalty, **stopping)  # type: ignore[arg-type]
            publish_sealed(path, lambda partial: save(found, partial))
        return found

    def of_parts(self, count: int, k: int, **stopping: Any) -> KeptRuns:
        """Runs of k picks by way of so many parts, ended by ω or not."""
        return self.apart(parts={"count": count, "k": k, **stopping})

    def apart(self, **more: Any) -> KeptRuns:
        """Runs on another objective of the same inputs."""
        return KeptRuns(self.folder, {**self.inputs, **more}, self.longest)

    def path(self, penalty: float) -> Path:
        """Where λ's run is kept."""
        return self.folder / f"{digest({**self.inputs, 'penalty': float(penalty)})}.npz"


def save(trace: GreedyTrace, path: Path) -> None:
    """Write a run as plain arrays."""
    arrays: dict[str, Any] = {name: np.array(getattr(trace, name)) for name in LISTS}
    arrays |= {f"later-{t}": gains for t, gains in trace.later}
    arrays["drift"] = np.array(np.nan if trace.drift is None else trace.drift)
    arrays["complete"] = np.array(trace.complete)
    arrays["rounds"] = np.array(json.dumps(asdict(trace.rounds) if trace.rounds else None))
    with path.open("wb") as file:
        np.savez(file, **arrays)


def load(path: Path) -> GreedyTrace:
    """Read a run back."""
    with np.load(path, allow_pickle=False) as file:
        lists: dict[str, Any] = {name: file[name].tolist() for name in LISTS}
        looks = sorted(int(name[6:]) for name in file.files if name.startswith("later-"))
        drift, rounds = float(file["drift"]), json.loads(str(file["rounds"]))
        return GreedyTrace(
            **lists,
            later=[(t, file[f"later-{t}"]) for t in looks],
            drift=None if np.isnan(drift) else drift,
            complete=bool(file["complete"]),
            rounds=Rounds(**rounds) if rounds else None,
        )
