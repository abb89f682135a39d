"""The exact greedy in blocks: many candidates are brought up to date by one product of matrices.

A gain only ever shrinks, so one that has not been looked at for a while bounds what it is now, and
the score too. A shortlist H of the candidates with the largest gains is kept exact; a pick from it
is the greedy's own as long as its score exceeds the largest bound outside. With C the columns so
far and L their rows at the picks (see :class:`spice.submodular.fisher`),

    W = α K_HH − C_H C_Hᵀ,   r = diag W,   e = W_·* / √(1 + r_*),   W ← W − e eᵀ

is Cholesky's factorisation going on: a block of picks costs two products of matrices, and vectors
of the shortlist's length. What stands outside is left alone until its bound comes up; the columns
that it lacks are then made up for by C ← (α G Sᵀ − C Lᵀ) L⁻ᵀ, with S the gradients of the picks.

Products are taken in float32, on any device, unless the gradients come in float64 or a gain would
be left uncertain by more than ``TOLERANCE``; sums that decide are in float64. Whenever the number
of picks has doubled, L is factorised anew in float64 from K_SS: what the gains had drifted by is
kept in :attr:`spice.submodular.greedy.GreedyTrace.drift`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from spice.submodular.greedy import ETA, GreedyTrace, conflicts_of, first_best, moments, record
from spice.submodular.kernel import Rows, squared_norms
from spice.submodular.rooms import Places, Rooms, largest_places

if TYPE_CHECKING:
    from torch import Tensor

SHORTLIST = 512
PER_PICK, FEWEST = 2, 16  # the length of a shortlist where few picks are wanted
BLOCK = 64
CHUNK = 512  # candidates that catch up at a time
FIRST_REFRESH = 256
ROUNDINGS = 10  # units in the last place by which r may be off, relative to α‖g‖²
TOLERANCE = 1e-4  # nats
FEW_ROWS = 4_000  # up to so many rows all is done in float64
ROOM = 0.5  # share of a GPU's free memory that the gradients may take
COLUMNS = {"float32": 16_384, "float64": 8_192}  # whose products are taken at a time


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
    ``squares`` are their ‖g‖², if known. A shortlist starts with ``size`` candidates and grows
    where none of it is sure to be best, as a large ``penalty`` or many equal rows make it;
    ``size`` and ``block`` decide time and memory only. With ``size`` and ``block`` 1 this is the
    lazy greedy on stale gains. ``certified`` makes sure of the largest gains that are left at the
    end, for a close certificate.
    """
    squares = squared_norms(gradients) if squares is None else squares
    places = Places(len(gradients), rooms, k)
    state = State(gradients, places, alpha, device, squares)
    size = size or min(SHORTLIST, max(FEWEST, PER_PICK * state.k))
    trace, wanted, refresh = GreedyTrace(), size, FIRST_REFRESH
    looks = sorted(moments(state.k), reverse=True)
    while state.m < state.k:
        if looks and state.m >= looks[-1]:
            trace.later.append((state.m, places.ahead(state.bounds(places.free))))
            looks = [t for t in looks if t > state.m]
        which, bound = state.shortlist(wanted, places.open)
        part = Block(state, which, bound, trace, penalty, eta)
        stopped = part.run(min(block, state.k - state.m), stop_ratio, stop_inclusive)
        if stopped:
            break
        wanted = size if part.order else 2 * wanted
        if state.single and state.m >= refresh:
            trace.drift = state.refresh(trace.gains)
            refresh *= 2
    if state.single and trace.picks:
        trace.drift = state.refresh(trace.gains)
    if certified:
        for among, count in places.parts(state.m):
            state.shortlist(count, among)
    trace.later.append((state.m, places.ahead(state.bounds(places.free))))
    trace.complete, trace.operations = not places.open.any(), state.operations
    return trace


class State:
    """What is known of n candidates after m picks.

    ``residual`` r is exact for candidates that ``known`` all m columns, and an upper bound else.
    """

    def __init__(
        self, gradients: Rows, places: Places, alpha: float, device: str | None, squares: np.ndarray
    ) -> None:
        import torch

        self.gradients, self.places, self.alpha = gradients, places, alpha
        self.k = k = places.k
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        n, d = gradients.shape
        self.squares = squares
        coarse = ROUNDINGS * np.finfo(np.float32).eps * alpha * self.squares.max(initial=0.0)
        self.single = gradients.dtype != np.float64 and n > FEW_ROWS and coarse <= TOLERANCE
        self.dtype = torch.float32 if self.single else torch.float64
        self.rounding = ROUNDINGS * torch.finfo(self.dtype).eps
        self.norms = np.sqrt(self.squares)
        self.residual = alpha * self.squares
        self.doubt = self.rounding * self.residual  # at most, of a gain
        self.known = np.zeros(n, dtype=np.int64)
        self.m = 0
        self.operations = 0.0  # multiplications and additions within products of matrices
        self.picks: list[int] = []
        kind: dict[str, Any] = {"dtype": self.dtype, "device": self.device}
        self.columns = torch.empty((n, k), **kind)  # memory is taken where it is written to
        self.chosen = torch.empty((k, d), **kind)  # the gradients of the picks that are settled
        self.settled = 0
        self.total = np.zeros(d)  # their sum
        self.factor = torch.zeros((k, k), **kind)
        self.resident = self._upload()

    def _upload(self) -> Tensor | None:
        """All gradients on the device, if it is a GPU with room for them: none is sent twice.

        Few rows stay where they are, for a window's shortlist is all that is ever read of it.
        """
        import torch

        n, d = self.gradients.shape
        if torch.device(self.device).type != "cuda" or n <= FEW_ROWS:
            return None
        dtype = torch.from_numpy(np.empty(0, self.gradients.dtype)).dtype
        if n * d * dtype.itemsize > ROOM * torch.cuda.mem_get_info(self.device)[0]:
            return None
        held = torch.empty((n, d), dtype=dtype, device=self.device)
        for which in np.split(np.arange(n), range(CHUNK, n, CHUNK)):
            held[which[0] : which[-1] + 1] = torch.from_numpy(self.gradients[which])
        return held

    def rows(self, which: np.ndarray, columns: slice | None = None) -> Tensor:
        """Gradients of some candidates, on the device; of all ``columns`` if none are named."""
        import torch

        if self.resident is not None:
            return self.resident[self.index(which), columns or slice(None)].to(self.dtype)
        asked = (which, columns) if columns else which
        return torch.from_numpy(self.gradients[asked]).to(self.device, self.dtype)

    def gram(self, which: np.ndarray) -> Tensor:
        """K within some candidates, without a copy of their rows in another precision."""
        import torch

        d, width = self.chosen.shape[1], COLUMNS["float32" if self.single else "float64"]
        total = torch.zeros(len(which), len(which), dtype=self.dtype, device=self.device)
        for start in range(0, d, width):
            part = self.rows(which, slice(start, start + width))
            total.addmm_(part, part.T)
        self.operations += 2 * len(which) ** 2 * d
        return total

    def settle(self) -> None:
        """Fetch the gradients of the picks made since the last time."""
        new = slice(self.settled, self.m)
        if self.settled < self.m:
            rows = self.rows(np.array(self.picks[new]))
            self.chosen[new] = rows
            self.total += rows.double().sum(dim=0).cpu().numpy()
            self.settled = self.m

    def along(self, which: np.ndarray) -> np.ndarray:
        """g · Σ_S g of some candidates."""
        import torch

        self.settle()
        if not self.m:
            return np.zeros(len(which))
        total = torch.from_numpy(self.total).to(self.device)
        return (self.rows(which).double() @ total).cpu().numpy()

    def index(self, which: np.ndarray) -> Tensor:
        """Positions, on the device."""
        import torch

        return torch.from_numpy(which).to(self.device)

    def shortlist(self, size: int, among: np.ndarray) -> tuple[np.ndarray, float]:
        """Of those ``among`` (n), which may gain most, all exact, and how far the others may."""
        candidates = np.flatnonzero(among)
        while True:
            reach = self.bounds(among)
            chosen, bound, next_best = candidates, -np.inf, candidates[:0]
            if len(candidates) > size:
                order = largest_places(reach, size + CHUNK)
                chosen, next_best = candidates[order[:size]], candidates[order[size:]]
                bound = float(reach[order[size]])
            stale = self._stale(chosen)
            if not len(stale):
                return np.sort(chosen), bound
            # A product of few rows costs about as much as one of many.
            self.catch_up(np.append(stale, self._stale(next_best)[: max(CHUNK - len(stale), 0)]))

    def bounds(self, among: np.ndarray) -> np.ndarray:
        """What the gains of those ``among`` (n) can be at most, rounding included."""
        return np.log1p(self.residual[among]) + self.doubt[among]

    def _stale(self, which: np.ndarray) -> np.ndarray:
        return which[self.known[which] < self.m]

    def catch_up(self, which: np.ndarray) -> None:
        """Make up for the columns that candidates lack, those together that lack about as many."""
        self.settle()
        which = which[np.argsort(self.known[which], kind="stable")]
        for i in range(0, len(which), CHUNK):
            self._catch_up(which[i : i + CHUNK])

    def _catch_up(self, which: np.ndarray) -> None:
        import torch

        start, m, places = int(self.known[which].min()), self.m, self.index(which)
        columns = self.columns[places, :m]
        right = self.alpha * (self.rows(which) @ self.chosen[start:m].T)
        right -= columns[:, :start] @ self.factor[start:m, :start].T
        triangle = self.factor[start:m, start:m]
        columns[:, start:] = torch.linalg.solve_triangular(triangle, right.T, upper=False).T
        self.columns[places, start:m] = columns[:, start:]
        taken = columns.double().square().sum(dim=1).cpu().numpy()
        self.residual[which] = np.maximum(self.alpha * self.squares[which] - taken, 0.0)
        self.known[which] = m
        new = m - start
        self.operations += len(which) * (2 * new * (self.chosen.shape[1] + start) + new**2)

    def take(self, which: np.ndarray, order: list[int], made: np.ndarray, r: np.ndarray) -> None:
        """Add a block of picks: their places in ``which``, its new columns, and the r they leave.

        On the diagonal of ``made`` (picks × h), at the picks, stand the factor's own √(1 + r_*).
        """
        import torch

        m, picks = self.m, which[order]
        self.m += len(order)
        new = torch.from_numpy(made).to(self.device, self.dtype)
        self.factor[m : self.m, :m] = self.columns[self.index(picks), :m]
        self.factor[m : self.m, m : self.m] = new[:, order].T.tril()
        self.columns[self.index(which), m : self.m] = new.T
        self.residual[which], self.known[which] = r, self.m
        self.picks += picks.tolist()

    def refresh(self, gains: list[float]) -> float:
        """Factorise I + αK_SS anew in float64; how far the largest change of a gain was."""
        import torch

        self.settle()
        chosen = self.chosen[: self.m]
        gram = torch.eye(self.m, dtype=torch.float64, device=self.device)
        for part in chosen.split(4096, dim=1):
            gram.addmm_(part.double(), part.double().T, alpha=self.alpha)
        factor = torch.linalg.cholesky(gram)
        self.operations += self.m**2 * (2 * chosen.shape[1] + self.m / 3)
        self.factor[: self.m, : self.m] = factor
        exact = 2.0 * factor.diagonal().log().cpu().numpy()
        return float(np.abs(exact - np.array(gains)).max())


@dataclass
class Block:
    """Picks from one shortlist ``which``; no other candidate's gain can be above ``bound``."""

    state: State
    which: np.ndarray
    bound: float
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
        made, stopped = np.empty((limit, len(which))), False
        while len(self.order) < limit and not stopped:
            j, count = len(self.order), len(trace.picks)
            gains = np.log1p(r)
            conflicts, blur = conflicts_of(along, norms, length2, weight, count, self.eta)
            doubt = state.rounding * (whole / (1.0 + r) + self.penalty * blur)
            free = state.places.open[which]  # a source may be full since the last pick
            scores = np.where(free, gains - self.penalty * conflicts, -np.inf)
            best = first_best(scores, doubt)
            if scores[best] - doubt[best] <= self.bound + self._blur(length2, weight):
                break
            first = trace.gains[0] if count else gains[best]
            stopped = stop_ratio is not None and bool(gains[best] <= stop_ratio * first)
            if stopped and not stop_inclusive:
                break
            pick = int(which[best])
            record(trace, pick, best, gains, conflicts, free, self.penalty)
            made[j] = (W[best] - made[:j, best] @ made[:j]) / np.sqrt(1.0 + r[best])
            r = np.maximum(r - np.square(made[j]), 0.0)
            made[j, best] = np.exp(0.5 * gains[best])  # the factor's own √(1 + r_*)
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
        along, gram = state.along(self.which), state.gram(self.which)
        columns = state.columns[state.index(self.which), : state.m]
        state.operations += 2 * len(self.which) ** 2 * state.m
        left = torch.addmm(gram, columns, columns.T, beta=state.alpha, alpha=-1.0)
        K, W = (part.double().cpu().numpy() for part in (gram, left))
        return K, W, along

    def _blur(self, length2: float, weight: float) -> float:
        """The most that rounding of its conflict may lift any candidate's score by."""
        if not (self.penalty and self.trace.picks):
            return 0.0
        return self.penalty * self.state.rounding * weight / np.sqrt(max(length2, 1e-300))
