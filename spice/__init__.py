"""Find the small part of an instruction-tuning pool that is worth training on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spice.gradients.agreement import Agreement
    from spice.records import Selection

__version__ = "0.1.0"
__all__ = ["reliability", "select"]


def select(
    gradients: Any,
    k: int,
    *,
    penalty: float = 0.1,
    alpha: float | str = 1.0,
    weights: Any = None,
    scale: str = "raw",
    clip_quantile: float = 0.95,
    stop_ratio: float | None = None,
    stop_inclusive: bool = False,
    keep_zero: bool = False,
    fisher: str = "exact",
    maximizer: str = "auto",
) -> Selection:
    """Pick k of n gradients by SPICE: exact Fisher log-determinant gains less a conflict penalty.

    At each step the row with the largest Δ_x(S) − λ·c(x|S) is taken, where
    Δ_x(S) = log(1 + α g_xᵀ(I + α Σ_S g gᵀ)⁻¹ g_x) and c(x|S) = max(0, −cos(g_x, mean of S)), ties
    to the smaller position (arXiv 2601.23155). Up to 4,000 rows all is done in float64; larger
    pools are gone through in blocks, in float32 unless they come in float64, and may stay on disk
    (a memory-mapped array is never read whole).

    Args:
        gradients: n × d, numpy or torch, any float type.
        k: how many; more than there are usable rows gives all of them and a warning.
        penalty: λ ≥ 0. 0 is plain Fisher information.
        alpha: α > 0, or ``"relative"`` for 1/mean ‖g‖².
        weights: n numbers ≥ 0, how far each row is to be trusted, as :func:`reliability` has them:
            rows are then w_x g_x/‖g_x‖, ``scale`` has no part in it, and rows of weight 0 are left
            out. With α = 10 a trusted row's gain stands well above the identity's.
        scale: ``"raw"``, ``"unit"`` (each gradient divided by its norm), or ``"clip"`` (the longest
            shrunk to the ``clip_quantile`` of the norms).
        clip_quantile: in (0, 1].
        stop_ratio: ω in [0, 1]; stop before the first pick with Δ ≤ ω·Δ of the first pick.
        stop_inclusive: keep that pick.
        keep_zero: let rows with a zero gradient be picked.
        fisher: the form of the information; :mod:`spice.submodular.fisher` has the others.
        maximizer: the way to the same picks; :mod:`spice.submodular.objective` has them all.

    Returns:
        A selection with ``indices``, ``gains``, ``conflicts``, ``bases``, ``epsilons`` in the
        order of picking, ``information`` F(S), a ``certificate`` of how far from the best k rows
        that can be, and ``excluded`` rows (zero, not finite or not trusted).

    Raises:
        spice.errors.InputError: arguments outside these ranges, or gradients that are not n × d.
    """
    from spice.library import select_gradients

    return select_gradients(
        gradients,
        k,
        weights,
        penalty=penalty,
        alpha=alpha,
        scale=scale,
        clip_quantile=clip_quantile,
        stop_ratio=stop_ratio,
        stop_inclusive=stop_inclusive,
        keep_zero=keep_zero,
        fisher=fisher,
        maximizer=maximizer,
    )


def reliability(
    gradients: Any,
    sources: Sequence[Any] | None = None,
    *,
    share: float = 0.1,
    copies: float = 0.98,
    references: int = 2048,
    seed: int = 0,
) -> Agreement:
    """How far each gradient can be trusted, by what the others of its source say of it.

    For row x each other row of its source has a vote, the cosine of the two gradients. Support c⁺
    is the mean of the largest tenth of the votes, opposition c⁻ that of the largest tenth of their
    negatives, a = c⁺ − c⁻ the net consensus, and w² = (max(0, a)/τ)^(½ + π), where π estimates the
    untrustworthy share of the source and τ is the consensus of a typical row of the others:
    :mod:`spice.gradients.agreement` has all of it.

    Args:
        gradients: n × d, numpy or torch, any float type.
        sources: n names, or None where all rows judge each other.
        share: of the votes whose mean is taken.
        copies: the cosine above which rows are near copies, which share one vote.
        references: voters of a source at most, drawn from ``seed`` where it has more rows.
        seed: draws them.

    Returns:
        An agreement with ``weights()``, ``support``, ``opposition`` and ``net``, n each.

    Raises:
        spice.errors.InputError: arguments outside these ranges, gradients that are not n × d, or
            other than n sources.
    """
    from spice.library import judge

    return judge(gradients, sources, share=share, copies=copies, references=references, seed=seed)
