"""``data=sandbox``: the embedded world as a pool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from spice.data.pool import Pool, identify
from spice.errors import InputError, did_you_mean
from spice.sandbox.pool import KINDS, generate


@dataclass(frozen=True)
class SandboxPool:
    """``data=sandbox``: the embedded world; see :mod:`spice.sandbox.pool`.

    ``kinds`` are the shares of the kinds of row, ``only`` the kinds that are kept of what was
    generated: what an oracle would choose from. ``copies`` says how often the rows of a kind are
    given, once where it does not; ``size`` counts each row once.
    """

    size: int
    seed: int
    kinds: Mapping[str, float] | None
    only: Sequence[str] | None
    copies: Mapping[str, int] | None

    def load(self) -> Pool:
        """Generate the rows, and keep the truth about them aside.

        Raises:
            InputError: an option outside its range, or no rows that are left.
        """
        if self.size < 1:
            raise InputError(f"data.size={self.size}: must be at least 1")
        kept = KINDS if self.only is None else self.only
        if isinstance(kept, str) or not set(kept) <= set(KINDS):
            raise InputError(f"data.only={self.only}: give a list out of {', '.join(KINDS)}")
        made = [
            entry for entry in generate(self.size, self.seed, self.kinds) if entry[1].kind in kept
        ]
        if not made:
            raise InputError(f"data.only={self.only}: the pool has no such rows")
        given = [entry for entry in made for _ in range(self._copies(KINDS).get(entry[1].kind, 1))]
        rows = identify(row for row, _ in given)
        return Pool(rows, truth={r.id: known for r, (_, known) in zip(rows, given, strict=True)})

    def _copies(self, known: Iterable[str]) -> Mapping[str, int]:
        if self.copies is not None and not isinstance(self.copies, Mapping):
            example = "as in data.copies={malformed: 10}"
            raise InputError(f"data.copies={self.copies}: give counts by kind, {example}")
        for kind, count in (self.copies or {}).items():
            if kind not in known:
                hint = did_you_mean(str(kind), known)
                raise InputError(f"data.copies.{kind}: no such kind of row.{hint}")
            if type(count) is not int or count < 1:
                raise InputError(f"data.copies.{kind}={count}: must be a whole number above 0")
        return self.copies or {}
