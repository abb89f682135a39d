"""What all rows would gain after a choice, by one pass over them: it bounds what others can reach.

With S the picks, Q their gradients and L Lᵀ = I + α QQᵀ, what is left of α‖g‖² after the first t is

    r_x = α‖g_x‖² − ‖(L⁻¹ α Q g_x)_{1..t}‖²             all t at once, where k is at most d
    r_x = α‖L_t⁻¹ g_x‖²,  L_t L_tᵀ = I + α Q_tᵀ Q_t     one t after the other, where d is less

A gain is never above the one at S = ∅, so rows are gone through by falling length, and the pass
ends once that says of all others that they are not among those that count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from spice.submodular.rooms import Places
from spice.submodular.state import in_single, rounding

if TYPE_CHECKING:
    from torch import Tensor

    from spice.submodular.kernel import Rows
    from spice.submodular.objective import Objective

BLOCK = 1024  # rows in hand at a time
QUARTERS = 4  # after which gains are told

Left = Callable[["Tensor", np.ndarray], np.ndarray]


def later_of_all(objective: Objective, picks: Sequence[int]) -> list[tuple[int, np.ndarray]]:
    """As :attr:`spice.submodular.greedy.GreedyTrace.later` has it, of all n candidates.

    Each moment has k numbers at most, (k,), falling.
    """
    if not picks:
        return []
    n, k = len(objective.gradients), len(picks)
    looks = sorted({round(k * quarter / QUARTERS) for quarter in range(QUARTERS + 1)})
    gains = gains_after(objective.gradients, objective.squares, objective.alpha, picks, looks)
    places, found = Places(n, objective.rooms, k), []
    for t, row in zip(looks, gains, strict=True):
        for pick in picks[n - int(places.free.sum()) : t]:
            places.take(pick)
        found.append((t, places.ahead(row[places.free])))
    return found


def gains_after(
    gradients: Rows, squares: np.ndarray, alpha: float, picks: Sequence[int], looks: Sequence[int]
) -> np.ndarray:
    """Δ_x after the first t of ``picks`` (k) for each t of ``looks`` (q), or above it: q × n.

    ``gradients`` are n × d, ``squares`` (n) their ‖g‖². The k largest at the end are exact, but for
    rounding, of which the most that there can be is added.
    """
    import torch

    n, k = len(gradients), len(picks)
    single = in_single(gradients, alpha, squares)
    dtype = torch.float32 if single else torch.float64
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def rows(which: np.ndarray) -> Tensor:
        return torch.from_numpy(gradients[which]).to(device, dtype)

    left = _left_after(rows(np.array(picks)), alpha, looks)
    bounds = np.tile(np.log1p(alpha * squares), (len(looks), 1))
    order, others = np.argsort(-squares, kind="stable"), np.ones(n, dtype=bool)
    others[list(picks)] = False
    for start in range(0, n, BLOCK):
        seen = order[:start][others[order[:start]]]
        which = np.sort(order[start : start + BLOCK])
        if len(seen) >= k and bounds[-1, which].max() <= np.partition(bounds[-1, seen], -k)[-k]:
            break
        whole = alpha * squares[which]
        known = left(rows(which), whole) + rounding(single) * whole
        bounds[:, which] = np.log1p(np.clip(known, 0.0, whole))
    return bounds


def _left_after(chosen: Tensor, alpha: float, looks: Sequence[int]) -> Left:
    """From rows (b × d), and α‖g‖² (b), to r at each of ``looks`` (q), q × b.

    ``chosen`` are k × d.
    """
    import torch

    k, d = chosen.shape

    def factor(rows: Tensor) -> Tensor:
        inner = torch.eye(len(rows), dtype=torch.float64, device=rows.device)
        for part in rows.split(4096, dim=1):
            inner.addmm_(part.double(), part.double().T, alpha=alpha)
        return torch.linalg.cholesky(inner).to(rows.dtype)

    def by_products(rows: Tensor, whole: np.ndarray) -> np.ndarray:
        made = torch.linalg.solve_triangular(all_of_it, alpha * (chosen @ rows.T), upper=False)
        lost = made.double().square_().cumsum(dim=0).cpu().numpy()
        return whole - np.concatenate([np.zeros((1, len(rows))), lost])[list(looks)]

    def by_coordinates(rows: Tensor, whole: np.ndarray) -> np.ndarray:
        made = (torch.linalg.solve_triangular(L, rows.T, upper=False) for L in each)
        return np.stack([alpha * part.double().square().sum(dim=0).cpu().numpy() for part in made])

    if k <= d:
        all_of_it = factor(chosen)
        return by_products
    each = [factor(chosen[:t].T) for t in looks]
    return by_coordinates
