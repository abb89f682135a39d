"""The mix of sources in a selection: kept as in the pool, set by hand, or left to the scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from spice.errors import InputError, did_you_mean
from spice.submodular.rooms import Rooms
from spice.values import NonNegative, RefusedError, component

SLACK = 1e-9  # shares that were meant to sum to 1 may miss it by rounding


@component(kw_only=True)
class Mix:
    """What selectors inherit that pick by scores: the picks' shares of the sources.

    ``stratify`` ``source`` gives each source its share of the eligible rows; ``quotas`` give some
    sources their share of the picks, and what these leave of 1 goes to the others in proportion to
    their eligible rows. Without either, scores alone decide. A source with too few rows that can
    be picked passes the rest of its share on, in proportion to the others' shares; once none of
    these has rows left, to all in proportion to theirs: a budget is always filled.

    Raises:
        RefusedError: no such way to stratify, both ways at once, or shares that are none.
    """

    stratify: Literal["source"] | None = None
    quotas: Mapping[Any, NonNegative] | None = None

    def __post_init__(self) -> None:
        if not self.quotas:
            return
        if self.stratify:
            raise RefusedError(
                "quotas",
                self.quotas,
                "the mix is kept by selector.stratify already; set that to null, or leave this out",
            )
        total = sum(self.quotas.values())
        if total > 1 + SLACK:
            raise RefusedError("quotas", self.quotas, f"shares sum to {total:g}; must be at most 1")

    @property
    def mixed(self) -> bool:
        """Whether anything but the scores decides on the mix."""
        return bool(self.stratify or self.quotas)

    def check_sources(self, sources: Iterable[str]) -> None:
        """Refuse quotas of sources that the pool does not have, and quotas of 0 for all it has.

        Raises:
            InputError: so it is.
        """
        known = sorted(set(sources))
        named = self._named()
        for name in named:
            if name not in known:
                few = ", ".join(known[:10]) + (", …" if len(known) > 10 else "")
                hint = did_you_mean(name, known)
                raise InputError(f"selector.quotas.{name}: no such source, but {few}.{hint}")
        if named and len(named) == len(known) and not any(named.values()):
            raise InputError(
                "selector.quotas: every source has a share of 0; give one more than that"
            )

    def _named(self) -> dict[str, Fraction]:
        """The quotas by the names of their sources, which YAML may have read as numbers.

        Shares are as they were typed: 0.1 is a tenth here, and equal remainders are equal.
        """
        return {str(name): Fraction(str(share)) for name, share in (self.quotas or {}).items()}

    def rooms(
        self,
        sources: Sequence[str],
        eligible: Sequence[int],
        usable: Sequence[int] | np.ndarray,
        k: int,
    ) -> Rooms | None:
        """How many of k picks each source may have; None if scores alone decide.

        ``sources`` are those of all n rows of the pool. Shares are of the ``eligible`` rows; only
        ``usable`` m ones, which are the candidates in their order, can fill them.
        """
        if not self.mixed:
            return None
        self.check_sources(sources)
        shares = self._shares(Counter(sources[row] for row in eligible))
        there = Counter(sources[row] for row in usable)
        names = sorted(shares.keys() | there.keys())
        place = {name: number for number, name in enumerate(names)}
        asked = largest_remainders(shares, min(k, len(usable)))
        counts = filled(shares, there, min(k, len(usable)))
        return Rooms(
            names,
            np.array([counts.get(name, 0) for name in names], dtype=np.int64),
            np.array([place[sources[row]] for row in usable], dtype=np.int64),
            _notes(asked, counts),
        )

    def _shares(self, sizes: Mapping[str, int]) -> dict[str, Fraction]:
        """Each source's share, up to a common factor, from the numbers of its eligible rows."""
        if not self.quotas:
            return {name: Fraction(size) for name, size in sizes.items()}
        named = self._named()
        others = {name: size for name, size in sizes.items() if name not in named}
        rest = max(1 - sum(named.values(), Fraction(0)), Fraction(0))
        total = sum(others.values())
        return {**named, **{name: rest * size / total for name, size in others.items()}}


def largest_remainders(shares: Mapping[str, int | Fraction], k: int) -> dict[str, int]:
    """Split k in proportion to ``shares`` by largest remainders; the sum is k exactly.

    Equal remainders go to the name that sorts first. Where all shares are 0, nobody gets any.
    """
    total = sum(shares.values())
    if not total:
        return dict.fromkeys(shares, 0)
    parts = {name: divmod(k * share, total) for name, share in shares.items()}  # exact
    counts = {name: int(whole) for name, (whole, _) in parts.items()}
    by_remainder = sorted(shares, key=lambda name: (-parts[name][1], name))
    for name in by_remainder[: k - sum(counts.values())]:
        counts[name] += 1
    return counts


def filled(
    shares: Mapping[str, int | Fraction], there: Mapping[str, int], k: int
) -> dict[str, int]:
    """The same, but no name gets more than is ``there``: what is over goes to the others.

    Where only shares of 0 are left, these count by what is there of them.
    """
    counts, left = dict.fromkeys(shares, 0), min(k, sum(there.get(name, 0) for name in shares))
    while left:
        spare = {name: share for name, share in shares.items() if counts[name] < there.get(name, 0)}
        if not any(spare.values()):
            spare = {name: there[name] for name in spare}
        for name, more in largest_remainders(spare, left).items():
            taken = min(more, there[name] - counts[name])
            counts[name] += taken
            left -= taken
    return counts


def _notes(asked: Mapping[str, int], counts: Mapping[str, int]) -> list[str]:
    """One line on the sources that could not fill their share, and those that stepped in."""
    more = ", ".join(name for name in sorted(counts) if counts[name] > asked[name])
    if not more:
        return []
    short = {name: counts[name] for name in sorted(asked) if counts[name] < asked[name]}
    if not short:  # where shares are 0 nothing was asked for
        return [f"no source with a share has rows to pick from; all picks went to {more}"]
    told = ", ".join(f"{name} has {count} of {asked[name]}" for name, count in short.items())
    return [f"too few rows to fill a source's share: {told} picks; the rest went to {more}"]
