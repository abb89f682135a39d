"""What the blocked greedy knows of its candidates: gains, the columns behind them, the picks.

The columns C of Cholesky's factorisation of I + αK are kept per candidate up to the pick that it
was last brought up to date with; see :mod:`spice.submodular.blocked` for the formulas. The picks'
own gradients are kept as D = L⁻¹ S (k × d), made pick by pick: with it a column of any candidate is
one inner product, C = α G Dᵀ, however many there were before it. No row of √α D is longer than 1,
as α D Dᵀ = I − (L Lᵀ)⁻¹.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spice.submodular.conflicts import Conflicts, Outside
from spice.submodular.kernel import Rows
from spice.submodular.reader import Reader
from spice.submodular.rooms import Places, largest_places

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 512  # candidates that catch up at a time
PANEL = 128  # picks that they catch up with at a time
ROUNDINGS = 10  # units in the last place by which r may be off, relative to α‖g‖²
TOLERANCE = 1e-4  # nats
FEW_ROWS = 4_000  # up to so many rows all is done in float64, and a shortlist is all that is read


def rounding(single: bool) -> float:
    """By how much of α‖g‖² an r may be off."""
    return ROUNDINGS * float(np.finfo(np.float32 if single else np.float64).eps)


def in_single(gradients: Rows, alpha: float, squares: np.ndarray) -> bool:
    """Whether float32 does for n × d gradients, whose ‖g‖² are ``squares`` (n)."""
    coarse = rounding(single=True) * alpha * squares.max(initial=0.0)
    return bool(gradients.dtype != np.float64 and len(gradients) > FEW_ROWS and coarse <= TOLERANCE)


class State:
    """What is known of n candidates after m picks.

    ``residual`` r (n) is exact for candidates that ``known`` (n) all m columns, and an upper bound
    else. ``which`` stands for the positions of h candidates throughout.
    """

    def __init__(
        self, gradients: Rows, places: Places, alpha: float, device: str | None, squares: np.ndarray
    ) -> None:
        import torch

        self.places, self.alpha = places, alpha
        self.k = k = places.k
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        n, d = gradients.shape
        self.squares = squares
        self.single = in_single(gradients, alpha, squares)
        self.dtype = torch.float32 if self.single else torch.float64
        self.rounding = rounding(self.single)
        self.norms = np.sqrt(self.squares)
        self.residual = alpha * self.squares
        self.doubt = self.rounding * self.residual  # at most, of a gain
        self.known = np.zeros(n, dtype=np.int64)
        self.m = 0
        self.operations = 0.0  # multiplications and additions within products of matrices
        self.picks: list[int] = []
        kind: dict[str, Any] = {"dtype": self.dtype, "device": self.device}
        self.columns = torch.empty((n, k), **kind)  # memory is taken where it is written to
        self.directions = torch.empty((k, d), **kind)  # D of the picks that are settled
        self.settled = 0
        self.total = np.zeros(d)  # the sum of their gradients
        self.conflicts = Conflicts(self.norms, d)
        self.factor = torch.zeros((k, k), **kind)
        self.reader = Reader(gradients, self.device, self.dtype, hold=n > FEW_ROWS)

    def gram(self, which: np.ndarray) -> Tensor:
        """K (h × h) within ``which``."""
        import torch

        total = torch.zeros(len(which), len(which), dtype=self.dtype, device=self.device)
        for _, rows in self.reader.pieces(which):
            total.addmm_(rows, rows.T)
        self.operations += 2 * len(which) ** 2 * self.directions.shape[1]
        return total

    def settle(self) -> None:
        """Fetch the gradients of the picks made since the last time."""
        if self.settled < self.m:
            rows = self.reader.rows(np.array(self.picks[self.settled : self.m]))
            self.total += rows.double().sum(dim=0).cpu().numpy()
            self.directions[self.settled : self.m] = rows
            self._turn(self.settled, self.m)
            self.conflicts.point(self.total)
            self.settled = self.m

    def _turn(self, first: int, last: int) -> None:
        """D_p ← L_pp⁻¹ (S_p − L_{p,<p} D_{<p}) of picks p whose gradients stand in D's place."""
        import torch

        for start in range(first, last, PANEL):
            p = slice(start, min(start + PANEL, last))
            made = self.directions[p].addmm_(
                self.factor[p, :start], self.directions[:start], alpha=-1.0
            )
            made.copy_(torch.linalg.solve_triangular(self.factor[p, p], made, upper=False))
            self.operations += (p.stop - start) * (p.stop + start) * made.shape[1]

    def ahead(self) -> np.ndarray:
        """The gains that one set can have of all that is free: k numbers at most, falling."""
        return self.places.ahead(self.bounds(self.places.free))

    def look(self, which: np.ndarray) -> None:
        """Find out how ``which`` lie to the mean of the picks, where that is not known."""
        import torch

        self.settle()
        unseen = self.conflicts.unseen(which)
        if not self.m or not len(unseen):
            return
        found, total = np.zeros(len(unseen)), torch.from_numpy(self.total).to(self.device)
        for columns, rows in self.reader.pieces(unseen):
            found += (rows.double() @ total[columns]).cpu().numpy()
        self.conflicts.see(unseen, found)

    def shortlist(
        self, size: int, among: np.ndarray, penalty: float = 0.0
    ) -> tuple[np.ndarray, Outside]:
        """Of those ``among`` (n), which may score most, all exact, and how far the others may."""
        self.settle()
        candidates, unseen = np.flatnonzero(among), self.conflicts.unseen
        while True:
            reach = most = self.bounds(among)
            if penalty:
                most = reach - penalty * self.conflicts.least(among)
            chosen, outside, next_best = candidates, Outside(), candidates[:0]
            if len(candidates) > size:
                order = largest_places(most, size + CHUNK)
                chosen, next_best = candidates[order[:size]], candidates[order[size:]]
                outside = self._outside(float(most[order[size]]), np.delete(reach, order[:size]))
            stale = self._stale(chosen)
            # A product of few rows costs about as much as one of many.
            if len(stale):
                more = self._stale(next_best)[: max(CHUNK - len(stale), 0)]
                self.catch_up(np.append(stale, more))
            elif penalty and len(unseen(chosen)):
                self.look(np.append(chosen, next_best))
            else:
                return np.sort(chosen), outside

    def _outside(self, most: float, reach: np.ndarray) -> Outside:
        length2, weight = float(self.total @ self.total), float(self.norms[self.picks].sum())
        return Outside(most, float(reach.max()), length2, weight, self.conflicts.floor)

    def bounds(self, among: np.ndarray) -> np.ndarray:
        """What the gains of those ``among`` (n) can be at most, rounding included."""
        return np.log1p(self.residual[among]) + self.doubt[among]

    def _stale(self, which: np.ndarray) -> np.ndarray:
        return which[self.known[which] < self.m]

    def catch_up(self, which: np.ndarray) -> None:
        """Make up for what ``which`` (h) lack of the columns, those together that lack alike."""
        self.settle()
        which = which[np.argsort(self.known[which], kind="stable")]
        for i in range(0, len(which), CHUNK):
            self._catch_up(which[i : i + CHUNK])

    def _catch_up(self, which: np.ndarray) -> None:
        """C_p ← α G D_pᵀ, a panel p of picks after the other.

        ``which`` stand in the order of what they know, so those that lack a panel come first.
        """
        places, begins = self.reader.index(which), self.known[which] // PANEL * PANEL
        first = int(begins[0])
        panels = [slice(p, min(p + PANEL, self.m)) for p in range(first, self.m, PANEL)]
        lack = [int(np.searchsorted(begins, panel.start, side="right")) for panel in panels]
        columns = self.columns[places, : self.m]
        for panel, h in zip(panels, lack, strict=True):
            columns[:h, panel] = 0.0
        for part, rows in self.reader.pieces(which):
            for panel, h in zip(panels, lack, strict=True):
                directions = self.directions[panel, part].T
                columns[:h, panel].addmm_(rows[:h], directions, alpha=self.alpha)
        pairs = sum(h * (p.stop - p.start) for p, h in zip(panels, lack, strict=True))
        self.operations += 2 * pairs * self.directions.shape[1]
        self.columns[:, first : self.m].index_copy_(0, places, columns[:, first:])
        taken = columns.double().square().sum(dim=1).cpu().numpy()
        self.residual[which] = np.maximum(self.alpha * self.squares[which] - taken, 0.0)
        self.known[which] = self.m

    def take(self, which: np.ndarray, order: list[int], made: np.ndarray, r: np.ndarray) -> None:
        """Add a block of picks: their places in ``which``, its new columns, and the r they leave.

        On the diagonal of ``made`` (picks × h), at the picks, stand the factor's own √(1 + r_*).
        """
        import torch

        m, picks = self.m, which[order]
        self.m += len(order)
        new = torch.from_numpy(made).to(self.device, self.dtype)
        self.factor[m : self.m, :m] = self.columns[self.reader.index(picks), :m]
        self.factor[m : self.m, m : self.m] = new[:, order].T.tril()
        self.columns[self.reader.index(which), m : self.m] = new.T
        self.residual[which], self.known[which] = r, self.m
        self.picks += picks.tolist()

    def refresh(self, gains: list[float]) -> float:
        """Factorise I + αK_SS anew in float64; how far the largest change of a gain was."""
        import torch

        self.settle()
        chosen = self.directions[: self.m]
        gram = torch.eye(self.m, dtype=torch.float64, device=self.device)
        for columns, rows in self.reader.pieces(np.array(self.picks)):
            chosen[:, columns] = rows
        for part in chosen.split(4096, dim=1):
            wide = part.double()
            for i in range(0, self.m, CHUNK):  # what is above the diagonal is not read
                h = slice(i, i + CHUNK)
                gram[h, : i + CHUNK].addmm_(wide[h], wide[: i + CHUNK].T, alpha=self.alpha)
        factor = torch.linalg.cholesky(gram)
        self.operations += self.m**2 * (chosen.shape[1] + self.m / 3)
        self.factor[: self.m, : self.m] = factor
        self._turn(0, self.m)
        exact = 2.0 * factor.diagonal().log().cpu().numpy()
        return float(np.abs(exact - np.array(gains)).max())
