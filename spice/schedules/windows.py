"""``schedule=pools``: window by window, the proxy learning in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from spice.data import token_table
from spice.distributed import team
from spice.distributed.per_rank import PerRank
from spice.errors import InputError
from spice.gradients.work import Work
from spice.messages import say
from spice.records import Selection
from spice.schedules.base import Request, Schedule
from spice.selectors.base import GradientSelector, Method
from spice.selectors.mix import largest_remainders
from spice.values import Count, NonNegative, Positive, component

if TYPE_CHECKING:
    from spice.gradients.extraction import Extraction
    from spice.signals.base import Signal


@component
class Windows(Schedule):
    """The published way (arXiv 2601.23155, section 4).

    The rows, shuffled by the run's seed, are cut into windows of ``pool_size``; each gives its
    share of the budget, chosen on its own. Every ``refresh_every`` windows the proxy takes one
    step of AdamW on what they gave, at ``learning_rate`` and ``weight_decay``, unless
    ``train_proxy`` is off. What has been chosen is forgotten from one window to the next.

    Raises:
        InputError: an option outside its range.
    """

    pool_size: Count
    refresh_every: Count
    train_proxy: bool
    learning_rate: Positive
    weight_decay: NonNegative

    def check(self, selector: Method, name: str) -> None:
        """Selectors that choose by gradients alone, each window for itself.

        Raises:
            InputError: the selector needs more than that.
        """
        if not isinstance(selector, GradientSelector):
            raise InputError(
                f"schedule=pools has no use for selector={name}, which does not choose by "
                "gradients alone; take schedule=global"
            )
        selector.check_window()

    def needs(self, selector: Method) -> Mapping[str, Signal]:
        """None beforehand: each window reads its own as it comes."""
        return {}

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """The windows, and the adapter that learns in batches of some rows."""
        return {**asdict(self), **extraction.fingerprint(), "batch_size": extraction.batch_size}

    def work(self, request: Request) -> list[Work]:
        """The gradients of all rows, and the steps in between."""
        tokenized = request.proxy()
        taught = tokenized.lengths > 0
        lengths = token_table.lengths(tokenized.examples)[taught].tolist()
        share = self.train_proxy * request.k / max(len(lengths), 1)
        return [
            Work("gradients", tokenized, lengths),
            Work("training", tokenized, lengths, share, request.extraction.batch_size),
        ]

    def choose(self, request: Request) -> Selection:
        """Window after window."""
        # Keeps torch out of start-up.
        from spice.schedules.window_by_window import WindowByWindow, choose

        selector, tokenized, ids = request.selector, request.proxy(), request.signals.ids
        assert isinstance(selector, GradientSelector)
        windows = self.windows(ids, request.eligible, request.seed)
        say("selection", f"{len(windows):,} windows of {self.pool_size} rows")
        made = PerRank(
            partial(
                WindowByWindow.attached,
                request.extraction,
                tokenized.checkpoint,
                selector,
                request.extraction,
                self,
                tokenized.examples,
                ids,
                windows,
                request.k,
                folder=request.folder,
                pad_id=tokenized.pad_id,
                seed=request.seed,
            )
        )
        return team.everywhere(choose, made, request.trainer)[0]

    def windows(self, ids: Sequence[str], eligible: Sequence[int], seed: int) -> list[list[int]]:
        """The rows of each window; the last may be smaller.

        Rows are shuffled in the order of their ids, so the order of the pool changes nothing.
        """
        rows = np.array(sorted(eligible, key=lambda row: ids[row]), dtype=np.int64)
        shuffled = np.random.default_rng(seed).permutation(rows).tolist()
        return [shuffled[i : i + self.pool_size] for i in range(0, len(shuffled), self.pool_size)]


def shares(windows: Sequence[Sequence[int]], k: int) -> list[int]:
    """How many of k each window gives: in proportion to its rows, by largest remainders.

    813 windows of 120 and a last one of 60 rows give 12 each and 6: 9,750 of 97,500.
    """
    sizes = {f"{number:09}": len(window) for number, window in enumerate(windows)}
    return list(largest_remainders(sizes, min(k, sum(sizes.values()))).values())


def joined(parts: Sequence[tuple[Sequence[int], Selection]], n: int) -> Selection:
    """One selection from those of the windows, each with its rows' positions in the pool.

    ``information`` is the sum of the windows' own: what they share is not accounted for.
    """

    lists: dict[str, Any] = {
        name: [value for _, part in parts for value in getattr(part, name)]
        for name in ("scores", "gains", "conflicts", "bases", "epsilons")
    }
    alike = [part.without_penalty for _, part in parts]
    return Selection(
        n=n,
        indices=[rows[i] for rows, part in parts for i in part.indices],
        **lists,
        information=sum(part.information or 0.0 for _, part in parts),
        without_penalty=None
        if None in alike
        else [rows[i] for rows, part in parts for i in part.without_penalty or []],
        alpha=float(np.mean([part.alpha for _, part in parts])) if parts else None,
        penalty=parts[0][1].penalty if parts else None,
        excluded=_excluded(parts),
        trace=_trace(parts),
    )


Parts = Sequence[tuple[Sequence[int], Selection]]


def _excluded(parts: Parts) -> dict[str, list[int]]:
    excluded: dict[str, list[int]] = {}
    for rows, part in parts:
        for why, which in part.excluded.items():
            excluded.setdefault(why, []).extend(rows[i] for i in which)
    return {why: sorted(which) for why, which in excluded.items()}


def _trace(parts: Parts) -> dict[str, Any]:
    """What diagnostics need; the windows' shares of rows against their mean are averaged."""

    def chain(name: str) -> list[float]:
        return [value for _, part in parts for value in part.trace[name]]

    weights = [len(part.trace["rows"]) for _, part in parts]
    conflict = [weight * part.trace["pool_conflict"]
                for weight, (_, part) in zip(weights, parts, strict=True)]  # fmt: skip
    return {
        "conflicting": chain("conflicting"),
        "leverage": chain("leverage"),
        "rows": np.array([rows[i] for rows, part in parts for i in part.trace["rows"]]),
        "squared_norms": np.array(chain("squared_norms")),
        "changed_by_penalty": sum(part.trace["changed_by_penalty"] for _, part in parts),
        "pool_conflict": sum(conflict) / max(sum(weights), 1),
    }
