"""``budget=``: how many rows are to be chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice.errors import InputError

if TYPE_CHECKING:
    from omegaconf import DictConfig


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


def swept_budgets(sweep: Path) -> list[Any]:
    """The budgets that a multirun goes through, from what Hydra wrote down of it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    record = sweep / "multirun.yaml"
    if not record.is_file():
        return []
    config: DictConfig = OmegaConf.load(record)  # type: ignore[assignment]
    overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    found = [o for o in overrides if o.key_or_group == "budget" and o.is_sweep_override()]
    return [value for override in found for value in override.sweep_iterator()]
