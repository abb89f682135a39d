"""How far from the best k rows a selection can be, by bounds that anyone can check.

With F monotone and submodular, for any T and any k rows O, F(O) ≤ F(T) + Σ_{x∈O} Δ_x(T). So each
moment of a greedy run bounds the optimum from above, whatever the run maximised:

    OPT ≤ min_t [F(S_t) + the k largest Δ_x(S_t)]                        ``later_gains``

Two bounds hold before the run (with q = 1 − (1 − 1/k)^k, over 0.632):

    OPT ≤ F(S_k)·c/(1 − e^{−c}),  c = 1 − min_x Δ_x(V∖x)/Δ_x(∅)          ``curvature``, for λ = 0
    OPT ≤ F(S_k)/q + kλ                                                  ``additive``

With rooms, OPT is the best of the sets of as many rows that respect them. The first bound adds up
the k largest Δ_x(S_t) that such a set can have together. Before the run,

    OPT ≤ 2 F(S_k) + kλ                                                  ``matroid``

for the sets of at most k rows that respect rooms are a matroid's (Fisher, Nemhauser and Wolsey
1978, for λ = 0): S_k is a base of it, and O can be made one. Bases match one to one, O ∋ o_t with
the pick s_t, such that o_t could have been picked in its place. So Δ(o_t|S_k) ≤ Δ(o_t|S_{t−1}) ≤
Δ(s_t|S_{t−1}) + λ, and their sum over t is at most F(S_k) + kλ.

With two rounds (:mod:`spice.submodular.two_rounds`) none of these holds but the first, for which
all rows' gains are computed anew, at S_k and some moments before. In expectation over the draw of
the parts, with q as above, or ½ in rooms,

    E F(S) ≥ q/2 (OPT − 2kλ)                                             ``in_expectation``

(Barbosa, Ene, Nguyen and Ward 2015 for λ = 0.) Take the best O, and the probability p_x of each row
x of it to be picked in the part it falls to. A part's greedy that refuses each of O_r ⊆ O goes as
it would have gone with all of them at hand, the penalty included, so F(S_part) ≥ q(F(O_r) − kλ).
The union has the others, O_s, so F(S_union) ≥ q(F(O_s) − kλ). x is in O_r with probability 1 − p_x
and in O_s with p_x; F's Lovász extension is convex, so E F(O_r) + E F(O_s) ≥ F(O), and the better
of the two has half. Rows must be spread independently, which they are. It says nothing about one
draw; and nothing at all where ω ends runs, each after its own number of picks.

c is the total curvature (Conforti and Cornuéjols 1984); the last is Nemhauser's bound (1978) with
each pick's gain at most λ short of the largest, since 0 ≤ c(x|S) ≤ 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spice.submodular.greedy import GreedyTrace
from spice.submodular.kernel import Rows, known_products, products
from spice.submodular.rooms import Rooms

SMALL = 2048  # up to so many rows or coordinates c is computed, beyond it bounded


def certificate(
    trace: GreedyTrace, gradients: Rows, squares: np.ndarray, alpha: float, penalty: float
) -> dict[str, Any] | None:
    """The bounds of OPT in nats, the least of them, and F(S) over it; None if nothing is chosen.

    ``gradients`` are n × d, ``squares`` (n) their ‖g‖².
    """
    k = len(trace.picks)
    if not k:
        return None
    information = float(sum(trace.gains))
    bounds = {"later_gains": later_gains(trace, k)}
    share = 1.0 - (1.0 - 1.0 / k) ** k
    if penalty == 0:
        c = curvature(gradients, squares, alpha)
        bounds["curvature"] = information * (c / -math.expm1(-c) if c > 0 else 1.0)
    bounds["additive"] = information / share + k * penalty
    return _told(information, bounds)


def certificate_in_rooms(trace: GreedyTrace, penalty: float) -> dict[str, Any] | None:
    """The same where sources have rooms; no curvature, which bounds sets of any mix."""
    k = len(trace.picks)
    if not k:
        return None
    information = float(sum(trace.gains))
    bounds = {"later_gains": later_gains(trace, k), "matroid": 2 * information + k * penalty}
    return _told(information, bounds)


def certificate_of_rounds(
    trace: GreedyTrace, penalty: float, rooms: Rooms | None
) -> dict[str, Any] | None:
    """The same for two rounds: what these picks have, and what a draw can be expected to have.

    ``in_expectation`` says E F(S) ≥ ``fraction`` × OPT − ``less`` nats; None where ω ended it.
    """
    k = len(trace.picks)
    if not k or trace.rounds is None:
        return None
    told = _told(float(sum(trace.gains)), {"later_gains": later_gains(trace, k)})
    share = 0.5 if rooms is not None else 1.0 - (1.0 - 1.0 / k) ** k
    expected = {"fraction": share / 2, "less": share * k * penalty}
    return {**told, "in_expectation": None if trace.rounds.stopped else expected}


def _told(information: float, bounds: dict[str, float]) -> dict[str, Any]:
    optimum = max(min(bounds.values()), information)  # F(S) may be above it by rounding alone
    return {
        "optimum_at_most": optimum,
        "guaranteed_fraction": information / optimum if optimum > 0 else 1.0,
        "bounds": bounds,
    }


def later_gains(trace: GreedyTrace, k: int) -> float:
    """min_t F(S_t) + the k largest gains of what was left then, over the moments looked at."""
    reached = np.concatenate([[0.0], np.cumsum(trace.gains)])
    return float(min(reached[t] + gains[:k].sum() for t, gains in trace.later if t <= k))


def curvature(gradients: Rows, squares: np.ndarray, alpha: float) -> float:
    """c, or above it: with M = (I + α Σ_V g gᵀ)⁻¹, 1 + r_x(V∖x) = 1/(1 − α g_xᵀ M g_x).

    ``gradients`` are n × d, ``squares`` (n) their ‖g‖². Where both n and d are large,
    r_x(V∖x) ≥ α‖g_x‖²/(1 + α Σ_V ‖g‖²) takes its place.
    """
    n, d = gradients.shape
    alone = np.log1p(alpha * squares)
    if min(n, d) > SMALL:
        last = np.log1p(alpha * squares / (1.0 + alpha * squares.sum()))
    elif n <= d:
        known = known_products(gradients)
        K = products(gradients) if known is None else known
        left = np.linalg.inv(np.eye(n) + alpha * K).diagonal()  # 1 − α gᵀMg
        last = -np.log(np.clip(left, 1e-300, 1.0))
    else:
        last = -np.log1p(-_leverage(gradients, alpha))
    shares = np.divide(last, alone, out=np.ones_like(alone), where=alone > 0)
    return float(np.clip(1.0 - shares.min(initial=1.0), 0.0, 1.0))


def _leverage(gradients: Rows, alpha: float, block: int = 1024) -> np.ndarray:
    """α g_xᵀ (I + α Σ_V g gᵀ)⁻¹ g_x of all x."""
    n, d = gradients.shape
    parts = [slice(i, i + block) for i in range(0, n, block)]
    inner = np.eye(d)
    for rows in parts:
        G = np.asarray(gradients[rows], dtype=np.float64)
        inner += alpha * G.T @ G
    inverse = np.linalg.inv(inner)
    blocks = (np.asarray(gradients[rows], dtype=np.float64) for rows in parts)
    found = [alpha * np.einsum("nd,nd->n", G @ inverse, G) for G in blocks]
    return np.clip(np.concatenate(found), 0.0, 1.0 - 1e-15)
