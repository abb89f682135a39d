"""What a selection looks like, and plain warnings where it is not what it seems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spice.records import Diagnostics, Selection, Signals, text_of

LARGE = 0.05  # "large" norms are the pool's 5 % largest
SHORTNESS = -0.5  # a strong rank correlation of ‖g‖ with the response's tokens
#: reasons that are a method's own verdict on a row, told elsewhere
JUDGED = ("not trusted", "instruction does not help")
MISSED = 0.1  # a tenth of the pool that could not be picked is more than an accident
RULING = 0.25  # a quarter of the picks among them is five times what a random choice would give


def report(selection: Selection, signals: Signals) -> Diagnostics:
    """Describe a selection; :class:`Diagnostics` says what each quantity is."""
    picked = np.zeros(len(signals), dtype=bool)
    picked[selection.indices] = True
    mix = shares(signals.sources, selection.indices)
    facts: Diagnostics = {
        "rows": selection.n,
        "information": selection.information,
        "picked_length_correlation": spearman(picked.astype(float), signals.lengths),
        "median_length": {
            "pool": _median(signals.lengths),
            "picked": _median(signals.lengths[picked]),
        },
        "sources": mix,
        "mix_distance": mix_distance(mix) if selection.k else None,
        "excluded": {why: len(rows) for why, rows in selection.excluded.items()},
        "copies": selection.k - len({text_of(signals.ids[row]) for row in selection.indices}),
    }
    if selection.gains is not None:
        facts |= _gradient_report(selection, signals)
    weighed = selection.weights is not None
    facts["warnings"] = [*selection.notes, *warnings_of(facts, selection.penalty, weighed)]
    return facts


def warnings_of(facts: Diagnostics, penalty: float | None, weighed: bool = False) -> list[str]:
    """What its owner should know before he draws conclusions from a selection.

    Where rows were ``weighed``, the norms seen are the weights, and large ones are meant to rule.
    """
    found = []
    excluded = {why: count for why, count in facts["excluded"].items() if why not in JUDGED}
    if sum(excluded.values()) > MISSED * facts["rows"]:
        told = ", ".join(f"{count:,} {why}" for why, count in excluded.items())
        found.append(f"{told}: of {facts['rows']:,} rows these could not be picked")
    if facts["copies"]:
        found.append(
            f"{facts['copies']:,} of the picks are exact copies of other picks: a model learns "
            "them that often; take copies out of the pool if this is not meant"
        )
    if penalty and facts.get("changed_by_penalty") == 0:
        found.append(
            f"the penalty is inert: λ={penalty:g} changed no pick against λ=0 "
            f"({facts['conflicting_share']:.1%} of the candidates conflict, "
            f"leverage {facts['penalty_leverage']:.2g}); this selection is plain Fisher"
        )
    # The first pick is the largest norm of all, by the method's own definition.
    ruling = not weighed and facts.get("large_norm_share", 0) >= RULING
    if ruling and facts["large_norm_picks"] > 1:
        found.append(
            f"a few large norms rule: {facts['large_norm_share']:.0%} of the picks are among the "
            f"5 % of rows with the largest gradients; look for malformed rows, or try "
            "selector.scale=clip or unit"
        )
    if _short_answers_rule(facts):
        lengths = facts["median_length"]
        found.append(
            f"short answers rule: the picks' median answer has {lengths['picked']:.0f} tokens, the "
            f"pool's {lengths['pool']:.0f}; Spearman(‖g‖, length) is "
            f"{facts['norm_length_correlation']:+.2f}, for a mean over few tokens is large. "
            "selector=spice_consensus chooses by direction and by how far rows can be trusted"
        )
    return found


def _short_answers_rule(facts: Diagnostics) -> bool:
    """Whether norms follow shortness, and the picks follow the norms."""
    correlation, lengths = facts.get("norm_length_correlation"), facts["median_length"]
    follows = correlation is not None and correlation <= SHORTNESS
    return follows and lengths["picked"] <= lengths["pool"] / 2


def shares(sources: Sequence[str], picks: Sequence[int]) -> dict[str, dict[str, float]]:
    """Each source's share of the pool and of the picks."""
    pool, chosen = Counter(sources), Counter(sources[i] for i in picks)
    k = max(len(picks), 1)
    return {
        name: {"pool": pool[name] / len(sources), "picked": chosen[name] / k}
        for name in sorted(pool)
    }


def mix_distance(mix: Mapping[str, Mapping[str, float]]) -> float:
    """½ Σ |p − q| over the sources' shares p of the picks and q of the pool."""
    return 0.5 * sum(abs(share["picked"] - share["pool"]) for share in mix.values())


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation of n numbers with n others, average ranks for ties.

    None where either side is constant.
    """
    if len(a) < 2:
        return None
    x, y = _ranks(np.asarray(a)), _ranks(np.asarray(b))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _gradient_report(selection: Selection, signals: Signals) -> Diagnostics:
    rows = selection.trace["rows"]
    squared = selection.trace["squared_norms"]
    large = set(rows[np.argsort(-squared, kind="stable")[: max(1, round(LARGE * len(rows)))]])
    hits = sum(index in large for index in selection.indices)
    alpha = selection.alpha or 0.0
    return {
        "alpha": alpha,
        "alpha_median_norm": alpha * _median(squared),
        "pool_conflict": selection.trace["pool_conflict"],
        "conflicting_share": _mean(selection.trace["conflicting"]),
        "changed_by_penalty": selection.trace["changed_by_penalty"],
        "penalty_leverage": _median(selection.trace["leverage"]),
        "large_norm_share": hits / max(selection.k, 1),
        "large_norm_picks": hits,
        "norm_length_correlation": spearman(np.sqrt(squared), signals.lengths[rows]),
    }


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _median(values: Any) -> float:
    return float(np.median(values)) if len(values) else 0.0
