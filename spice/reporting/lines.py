"""What a run found, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spice.data.audit import MaskAudit
from spice.messages import shown

SOURCES = 8  # that a line names


def audit_line(role: str, audit: MaskAudit) -> str:
    """The mask audit in one line."""
    return (
        f"{role}: {audit.rows:,} rows, {audit.tokens:,} tokens, "
        f"{audit.supervised_tokens:,} supervised, {_answers(audit)}"
        f"{audit.truncated_rows:,} rows truncated, "
        f"{audit.unsupervised_rows:,} without supervision, "
        f"{audit.exact_duplicates:,} exact duplicates "
        f"({audit.template} template, at most {audit.max_tokens:,} tokens)"
    )


def _answers(audit: MaskAudit) -> str:
    """How many answers are learnt; said where it is not one of each row."""
    if audit.answers == audit.supervised_answers == audit.rows:
        return ""
    return (
        f"{audit.supervised_answers:,} of {audit.answers:,} answers "
        f"({audit.untaught_answers:,} exempt, {audit.cut_answers:,} cut), "
    )


def diagnostics_line(facts: Mapping[str, Any]) -> str:
    """A greedy selection's diagnostics in one line."""
    correlation = facts["norm_length_correlation"]
    length = f"{correlation:+.2f}" if correlation is not None else "undefined"
    return (
        f"rows against the pool's mean {facts['pool_conflict']:.1%}, "
        f"conflicting candidates {facts['conflicting_share']:.1%}, "
        f"picks changed by λ {facts['changed_by_penalty']}, "
        f"leverage {facts['penalty_leverage']:.2g}, "
        f"picks among the 5 % largest norms {facts['large_norm_share']:.0%}, "
        f"α·median‖g‖² {facts['alpha_median_norm']:.3g}, "
        f"Spearman(‖g‖, length) {length}"
    )


def partitions_lines(selection: Mapping[str, Any]) -> Iterator[str]:
    """How a choice came out of parts, and what is guaranteed; nothing of one greedy over all."""
    facts = selection["partitions"]
    if not facts or "union" not in facts:
        return
    why = "; one greedy over all does not fit in memory" if facts["asked"] == "auto" else ""
    yield (
        f"two rounds over {facts['count']} parts of up to {facts['largest_part']:,} rows "
        f"(selector.partitions={facts['asked']}{why}): F(S) {facts['of_union']:.3f} from their "
        f"union of {facts['union']:,} rows, {facts['of_best_part']:.3f} from the best part; "
        f"{facts['taken']} is taken"
    )
    if certificate := selection["certificate"]:
        yield _guarantee(certificate)


def _guarantee(certificate: Mapping[str, Any]) -> str:
    expected = certificate["in_expectation"]
    line = f"at least {certificate['guaranteed_fraction']:.1%} of the best choice's F"
    if expected is None:
        return f"{line}; with early stopping two rounds promise nothing beforehand"
    less = f" less {expected['less']:.3g} nats" if expected["less"] else ""
    return f"{line}; beforehand {expected['fraction']:.1%}{less}, in expectation over the parts"


def sources_line(facts: Mapping[str, Any]) -> str:
    """Each source's share of the picks beside its share of the pool, and how far the mixes are.

    Of many sources those with the largest shares of either. A single source leaves nothing to be
    far from.
    """
    shares = facts["sources"]
    largest = sorted(shares, key=lambda name: -max(shares[name].values()))[:SOURCES]
    each = ", ".join(
        f"{shown(name)} {share['picked']:.0%} (pool {share['pool']:.0%})"
        for name, share in shares.items()
        if name in largest
    )
    more = f" and {len(shares) - SOURCES} more" if len(shares) > SOURCES else ""
    return each if len(shares) < 2 else f"{each}{more}; mix distance {facts['mix_distance']:.0%}"


def score_line(name: str, score: Mapping[str, Any]) -> str:
    """One benchmark's score in one line."""
    if score["value"] is None:
        return f"{name:<13} skipped: {score['skipped']}"
    error = f" ± {100 * score['stderr']:.1f}" if score["stderr"] is not None else ""
    cut = f", {score['cut']} cut to fit" if score.get("cut") else ""
    return (
        f"{name:<13} {100 * score['value']:.1f}{error}  "
        f"({score['metric']}, {score['shots']}-shot, n={score['n']}{cut})"
    )
