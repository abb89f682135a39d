"""How far gradients from anywhere can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spice.gradients.agreement import Agreement, agreement, directions, judging_groups
from spice.library import arrays
from spice.signals.reliability import Consensus


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
        InputError: arguments outside these ranges, gradients that are not n × d, or other than
            n sources.
    """
    matrix = arrays.matrix(gradients)
    names = arrays.names(sources, len(matrix))
    Consensus("source", share, copies, references, seed)  # refuses what makes no sense
    groups = judging_groups(names, directions(matrix))
    return agreement(matrix, groups, share=share, copies=copies, references=references, seed=seed)
