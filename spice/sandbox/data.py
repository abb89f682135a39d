"""``data=sandbox``: the embedded world as a pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from annotated_types import Ge, Le, MinLen

from spice.data.identity import identify
from spice.data.pool import Data, Pool
from spice.errors import InputError
from spice.sandbox.pool import KINDS, checked, generate
from spice.values import Count, NonNegative, OneOf, Seed, Strict, Told, component

Kind = Annotated[str, OneOf(*KINDS)]
Kinds = Annotated[tuple[Kind, ...], Strict(False), MinLen(1)]


@component
class SandboxPool(Data):
    """``data=sandbox``: the embedded world; see :mod:`spice.sandbox.pool`.

    ``kinds`` are the shares of the kinds of row, ``only`` the kinds that are kept of what was
    generated: what an oracle would choose from. ``copies`` says how often the rows of a kind are
    given, once where it does not; ``size`` counts each row once.
    """

    size: Annotated[int, Ge(1), Le(10**7), Told("must be a whole number from 1 to 10000000")]
    seed: Seed
    kinds: Mapping[Kind, NonNegative] | None
    only: Annotated[Kinds | None, Told(f"must be null or a list out of {', '.join(KINDS)}")]
    copies: Mapping[Kind, Count] | None

    def __post_init__(self) -> None:
        if self.kinds is not None:
            checked(self.kinds)

    def load(self) -> Pool:
        """Generate the rows, and keep the truth about them aside.

        Raises:
            InputError: no rows that are left.
        """
        kept = KINDS if self.only is None else self.only
        made = [
            entry for entry in generate(self.size, self.seed, self.kinds) if entry[1].kind in kept
        ]
        if not made:
            raise InputError(f"data.only={self.only}: the pool has no such rows")
        copies = self.copies or {}
        given = [entry for entry in made for _ in range(copies.get(entry[1].kind, 1))]
        rows = identify(row for row, _ in given)
        return Pool(rows, truth={r.id: known for r, (_, known) in zip(rows, given, strict=True)})
