"""``schedule=global``: one selection over the whole pool, the proxy staying as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spice.errors import InputError
from spice.schedules.base import Request, Schedule
from spice.selectors.base import GradientSelector, Method, Selector
from spice.values import component

if TYPE_CHECKING:
    from spice.records import Selection


@component
class WholePool(Schedule):
    """All signals are read first, then the selector picks once."""

    def check(self, selector: Method, name: str) -> None:
        """Whatever picks at once.

        Raises:
            InputError: the selector picks in rounds.
        """
        if not isinstance(selector, Selector):
            raise InputError(
                f"schedule=global has no use for selector={name}, whose proxy learns from each of "
                "its rounds; take schedule=rounds"
            )

    def choose(self, request: Request) -> Selection:
        """The selector's choice; greedy runs are kept for other budgets."""
        selector, signals = request.selector, request.signals
        if isinstance(selector, GradientSelector):
            return selector.select_gradients(
                signals["gradients"],
                signals.ids,
                request.k,
                request.eligible,
                request.kept,
                weights=signals.weights,
                sources=signals.sources,
            )
        assert isinstance(selector, Selector)
        rng = np.random.default_rng(request.seed)
        return selector.select(signals, request.k, rng, request.eligible)
