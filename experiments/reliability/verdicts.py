"""Verdicts: what the study was to show, and whether it did, told by the numbers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.evidence import Difference

if TYPE_CHECKING:
    from experiments.reliability.report import Evidence

CONSENSUS, TARGETED, UNIFORM = "spice_consensus", "spice_targeted", "uniform"
LEAST = 8.0  # points over a uniform draw that consensus was to gain, set beforehand


def sentences(runs: Evidence) -> list[str]:
    """A sentence for each question, in the order of the README."""
    return [
        _above(runs.minus(CONSENSUS, UNIFORM), f"{CONSENSUS} over a uniform draw", LEAST),
        _not_below(runs.minus(CONSENSUS, "full"), f"{CONSENSUS} against tuning on all rows"),
        _not_below(runs.minus(TARGETED, "less"), f"{TARGETED} against less"),
        *(
            _harmless(runs.minus(name, UNIFORM, "clean"), f"without noise, {name} against uniform")
            for name in (CONSENSUS, TARGETED)
        ),
        *(
            _above(runs.minus(f"λ = {penalty:g}", CONSENSUS), f"a penalty of {penalty:g}")
            for penalty in (0.1, 0.5)
        ),
        *(
            _above(runs.minus(CONSENSUS, without), what)
            for without, what in (
                ("weights without logdet", "the log-determinant over the weights"),
                ("logdet without weights", "the weights over the log-determinant"),
                ("no regard to sources", "judging within sources and giving each its share"),
                ("no shares for sources", "giving each source its share"),
            )
        ),
    ]


def _above(gap: Difference | None, what: str, least: float = 0.0) -> str:
    """Whether something gains at least so much, and more than the interval."""
    if gap is None:
        return _unknown(what)
    told = _told(gap, what)
    if gap.high < 0:
        return f"No: {told}; it loses."
    if gap.high < least:
        return f"No: {told}; {least:g} lie beyond the interval."
    if gap.low <= 0:
        return f"It cannot be told: {told}."
    if gap.mean < least:
        return f"No: {told}; a gain, but of less than {least:g}."
    return f"Yes: {told}."


def _not_below(gap: Difference | None, what: str) -> str:
    """Whether something is above or below; an interval around zero may hide a loss."""
    if gap is None:
        return _unknown(what)
    told = _told(gap, what)
    if gap.high < 0:
        return f"Below: {told}."
    if gap.low < 0:
        return f"It cannot be told: {told}; a loss of {-gap.low:.1f} is not ruled out."
    return f"Not below: {told}."


def _harmless(gap: Difference | None, what: str) -> str:
    """Whether something loses by more than the interval."""
    if gap is None:
        return _unknown(what)
    told = _told(gap, what)
    if gap.high < 0:
        return f"Below: {told}."
    return f"Above: {told}." if gap.low > 0 else f"Not below by more than the interval: {told}."


def _told(gap: Difference, what: str) -> str:
    return f"{what}: {gap} points ({gap.low:+.1f} to {gap.high:+.1f})"


def _unknown(what: str) -> str:
    return f"It cannot be told: {what}: fewer than two pools have the runs."
