"""``budget=``: how many rows are to be chosen."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from spice.errors import InputError
from spice.pipeline.jobs import Jobs, parsed


def resolve_budget(budget: Any, n: int) -> int:
    """The number of picks: a float in (0, 1] is a share of the pool, a whole number a count.

    Raises:
        InputError: it is neither, or more than the pool has.
    """
    if isinstance(budget, bool) or not isinstance(budget, int | float):
        raise InputError(f"budget={budget}: must be a share in (0, 1] or a count of at least 1")
    if isinstance(budget, float):
        if not 0 < budget <= 1:
            raise InputError(f"budget={budget}: a share of the pool must be in (0, 1]")
        return max(1, round(budget * n))
    if budget < 1:
        raise InputError(f"budget={budget}: must be a share in (0, 1] or a count of at least 1")
    if budget > n:
        raise InputError(f"budget={budget}: the pool has only {n} rows")
    return budget


def swept_picks(sweep: Path, n: int) -> list[int]:
    """The numbers of picks from n rows that the jobs of a sweep ask for, as its record has them.

    What is refused is its own job's concern.
    """
    found = []
    for job in Jobs(sweep).read():
        for given in parsed([o for o in job["overrides"] if o.startswith("budget=")]):
            with suppress(InputError):
                found.append(resolve_budget(given.value(), n))
    return found
