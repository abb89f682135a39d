"""The exact greedy in blocks: many candidates are brought up to date by one product of matrices.

A gain only ever shrinks, so one that has not been looked at for a while bounds what it is now, and
the score too, less what of its conflict is sure (:mod:`spice.submodular.conflicts`). A shortlist H
of the candidates with the largest bounds is kept exact; a pick from it is the greedy's own as long
as its score exceeds the largest bound outside. With C the columns so
far and L their rows at the picks (see :class:`spice.submodular.fisher`),

    W = α K_HH − C_H C_Hᵀ,   r = diag W,   e = W_·* / √(1 + r_*),   W ← W − e eᵀ

is Cholesky's factorisation going on: a block of picks costs two products of matrices, and vectors
of the shortlist's length. What stands outside is left alone until its bound comes up; the columns
that it lacks are then made up for by C ← α G (L⁻¹ S)ᵀ, with S the gradients of the picks.

Products are taken in float32, on any device, unless the gradients come in float64 or a gain would
be left uncertain by more than :data:`spice.submodular.state.TOLERANCE`; sums that decide are in
float64. Whenever the number of picks has doubled, L is factorised anew in float64 from K_SS: what
the gains had drifted by is kept in :attr:`spice.submodular.greedy.GreedyTrace.drift`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from spice.progress import progress
from spice.submodular.conflicts import Outside
from spice.submodular.greedy import (
    ETA,
    GreedyTrace,
    conflicts_of,
    decayed,
    first_best,
    moments,
    record,
)
from spice.submodular.kernel import Rows, squared_norms
from spice.submodular.rooms import Places, Rooms
from spice.submodular.state import State

SHORTLIST = 512
PER_PICK, FEWEST = 2, 16  # the length of a shortlist where few picks are wanted
BLOCK = 64
FIRST_REFRESH = 256


def blocked_greedy(
    gradients: Rows,
    k: int,
    *,
    alpha: float,
    penalty: float,
    squares: np.ndarray | None = None,
    stop_ratio: float | None = None,
    stop_inclusive: bool = False,
    eta: float = ETA,
    device: str | None = None,
    size: int | None = None,
    block: int = BLOCK,
    certified: bool = True,
    rooms: Rooms | None = None,
) -> GreedyTrace:
    """The picks of :func:`spice.submodular.greedy.greedy` with the exact information.

    ``gradients`` are n × d; rows are asked for in blocks, so a store on disk is never read whole.
    ``squares`` (n) are their ‖g‖², if known. A shortlist starts with ``size`` candidates and grows
    where none of it is sure to be best, as many equal rows make it; ``size`` and ``block`` decide
    time and memory only. With ``size`` and ``block`` 1 this is the lazy greedy on stale bounds.
    ``certified`` makes sure of the largest gains left at the end, for a close certificate.
    """
    squares = squared_norms(gradients) if squares is None else squares
    state = State(gradients, Places(len(gradients), rooms, k), alpha, device, squares)
    size = size or min(SHORTLIST, max(FEWEST, PER_PICK * state.k))
    trace, wanted, refresh = GreedyTrace(), size, FIRST_REFRESH
    looks = sorted(moments(state.k), reverse=True)
    with progress("greedy", state.k, "picks") as tell:
        while state.m < state.k:
            looks = _look(state, trace, looks)
            found = state.shortlist(wanted, state.places.open, penalty)
            part = Block(state, *found, trace, penalty, eta)
            if part.run(min(block, state.k - state.m), stop_ratio, stop_inclusive):
                break
            tell(len(part.order))
            wanted = size if part.order else 2 * wanted
            refresh = _refreshed(state, trace, refresh)
    return _finished(state, trace, certified)


def _look(state: State, trace: GreedyTrace, looks: list[int]) -> list[int]:
    """Note all gains if the next of ``looks``, which fall, has come; the moments that are left."""
    if not looks or state.m < looks[-1]:
        return looks
    trace.later.append((state.m, state.ahead()))
    return [t for t in looks if t > state.m]


def _refreshed(state: State, trace: GreedyTrace, due: int) -> int:
    """Factorise anew if so many picks are made; at how many it is due again."""
    if not state.single or state.m < due:
        return due
    trace.drift = state.refresh(trace.gains)
    return 2 * due


def _finished(state: State, trace: GreedyTrace, certified: bool) -> GreedyTrace:
    """The run with what is to be told of its end."""
    if state.single and trace.picks:
        trace.drift = state.refresh(trace.gains)
    if certified:
        for among, count in state.places.parts(state.m):
            state.shortlist(count, among)
    trace.later.append((state.m, state.ahead()))
    trace.complete, trace.operations = not state.places.open.any(), state.operations
    return trace


@dataclass
class Block:
    """Picks from one shortlist ``which``; ``outside`` tells how far all others may score."""

    state: State
    which: np.ndarray
    outside: Outside
    trace: GreedyTrace
    penalty: float
    eta: float
    order: list[int] = field(default_factory=list)

    def run(self, limit: int, stop_ratio: float | None, stop_inclusive: bool) -> bool:
        """Pick up to ``limit``; whether the stopping rule ended it all."""
        state, which, trace = self.state, self.which, self.trace
        K, W, along = self._products()
        r, norms = state.residual[which], state.norms[which]
        length2, weight = float(state.total @ state.total), float(state.norms[state.picks].sum())
        whole = state.alpha * state.squares[which]
        made, stopped, advance, start = np.empty((limit, len(which))), False, 0.0, along
        while len(self.order) < limit and not stopped:
            j, count = len(self.order), len(trace.picks)
            gains = np.log1p(r)
            conflicts, blur = conflicts_of(along, norms, length2, weight, count, self.eta)
            doubt = state.rounding * (whole / (1.0 + r) + self.penalty * blur)
            free = state.places.open[which]  # a source may be full since the last pick
            scores = np.where(free, gains - self.penalty * conflicts, -np.inf)
            best = first_best(scores, doubt)
            bound = self.outside.bound(
                self.penalty, advance, length2, weight, state.rounding, count * self.eta
            )
            if scores[best] - doubt[best] <= bound + self._blur(length2, weight):
                break
            stopped = decayed(trace, gains[best], stop_ratio)
            if stopped and not stop_inclusive:
                break
            pick = int(which[best])
            record(trace, pick, best, gains, conflicts, free, self.penalty)
            made[j] = (W[best] - made[:j, best] @ made[:j]) / np.sqrt(1.0 + r[best])
            r = np.maximum(r - np.square(made[j]), 0.0)
            made[j, best] = np.exp(0.5 * gains[best])  # the factor's own √(1 + r_*)
            advance += start[best]
            length2 += 2.0 * along[best] + state.squares[pick]
            weight += norms[best]
            along = along + K[best]
            state.places.take(pick)
            self.order.append(best)
        if self.order:
            state.take(which, self.order, made[: len(self.order)], r)
        return stopped

    def _products(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """K and W within the shortlist, and g · Σ_S g."""
        import torch

        state = self.state
        state.look(self.which)
        along, gram = state.conflicts.along[self.which], state.gram(self.which)
        columns = state.columns[state.reader.index(self.which), : state.m]
        state.operations += 2 * len(self.which) ** 2 * state.m
        left = torch.addmm(gram, columns, columns.T, beta=state.alpha, alpha=-1.0)
        K, W = (part.double().cpu().numpy() for part in (gram, left))
        return K, W, along

    def _blur(self, length2: float, weight: float) -> float:
        """The most that rounding of its conflict may lift any candidate's score by."""
        if not (self.penalty and self.trace.picks):
            return 0.0
        return self.penalty * self.state.rounding * weight / np.sqrt(max(length2, 1e-300))
