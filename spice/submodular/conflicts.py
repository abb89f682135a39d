"""How much of a penalty is sure for candidates that are not looked at at every pick.

But for η, c(x|S) = max(0, −cos(g_x, u)) depends on the direction u of the picks' mean alone, and
that settles as picks add up. With x looked at when it was u_s,

    −cos(g_x, u) ≥ −cos(g_x, u_s) − ‖u − u_s‖,

so that a look now and then bounds each conflict from below, and each score from above.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLOOR = 1e-3  # of the median norm: η may take all of a smaller candidate's conflict away


class Conflicts:
    """What is known of n candidates' conflicts, with ``norms`` (n) the lengths of d coordinates.

    ``along`` (n) is g_x · Σ_S g at the last look; ``which`` stands for the positions of h of them.
    """

    def __init__(self, norms: np.ndarray, d: int) -> None:
        self.norms = norms
        self.floor = FLOOR * float(np.median(norms)) if len(norms) else 0.0
        self.along = np.zeros(len(norms))
        self._opposed = np.zeros(len(norms))  # max(0, −cos) at the last look
        self._looked = np.zeros(len(norms), dtype=np.int64)  # when that was
        self._directions = [np.zeros(d)]
        self._turned = np.zeros(1)  # ‖u − u_s‖ for each of them
        self._length = 0.0

    def point(self, total: np.ndarray) -> None:
        """The picks' sum Σ_S g (d) is another now."""
        self._length = float(np.linalg.norm(total))
        self._directions.append(total / self._length if self._length else np.zeros_like(total))
        now = self._directions[-1]
        self._turned = np.array([np.linalg.norm(now - before) for before in self._directions])

    def unseen(self, which: np.ndarray) -> np.ndarray:
        """Those of ``which`` that were not looked at since."""
        return which[self._looked[which] < len(self._directions) - 1]

    def see(self, which: np.ndarray, along: np.ndarray) -> None:
        """Note g · Σ_S g (h) of ``which``."""
        self.along[which], self._looked[which] = along, len(self._directions) - 1
        steady = (self.norms[which] >= self.floor) & (self.norms[which] * self._length > 0)
        lengths = np.where(steady, self.norms[which] * self._length, 1.0)
        self._opposed[which] = np.where(steady, np.clip(-along / lengths, 0.0, 1.0), 0.0)

    def least(self, among: np.ndarray) -> np.ndarray:
        """What the conflicts of those ``among`` (n) are at least, but for η."""
        return np.maximum(self._opposed[among] - self._turned[self._looked[among]], 0.0)


@dataclass(frozen=True)
class Outside:
    """What scores can be at most outside a shortlist: ``most``, and ``reach`` whatever the penalty.

    ``length2`` was ‖Σ_S g‖² and ``weight`` Σ_S ‖g‖ when the shortlist was made, ``floor`` the least
    norm for which a conflict was counted.
    """

    most: float = -np.inf
    reach: float = -np.inf
    length2: float = 0.0
    weight: float = 0.0
    floor: float = 0.0

    def bound(
        self, penalty: float, advance: float, length2: float, weight: float, slip: float, eta: float
    ) -> float:
        """The same some picks later, ΔΣ being what they add to the sum.

        ``advance`` is Σ · ΔΣ, ``length2`` ‖Σ + ΔΣ‖² and ``weight`` Σ ‖g‖ now; ``slip`` is how far
        an inner product of theirs may be off, of their norms' product, and ``eta`` m η.
        """
        if self.most == self.reach or min(self.length2, length2) <= 0 or not self.floor:
            return self.reach
        length = np.sqrt(self.length2)
        across2 = length2 - self.length2 - 2.0 * advance - (advance / length) ** 2
        across = np.sqrt(max(across2, 0.0) + slip * (weight - self.weight) ** 2)
        turned = float(np.arctan2(across, length + advance / length))
        lost = eta / (self.floor * np.sqrt(length2))
        return min(self.reach, self.most + penalty * (turned + lost))
