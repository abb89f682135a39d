"""The ways to choose: from signals at once, window by window, or round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from spice.messages import say
from spice.records import Selection, Signals
from spice.reporting.health import examine
from spice.reporting.trust import examine as examine_trust

if TYPE_CHECKING:
    from peft import PeftModel

    from spice.models.tokenized import Reading
    from spice.pipeline.components import Components
    from spice.records import Row
    from spice.schedules.windows import Pools
    from spice.selectors.lead import Lead
    from spice.selectors.spice import Spice
    from spice.submodular.kept_runs import Orders


def proxy_learns(parts: Components) -> bool:
    """Whether the proxy is trained while it is chosen from."""
    return parts.schedule.windowed or hasattr(parts.selector, "begin")


@dataclass(frozen=True)
class Choosing:
    """One choice of k of the n ``rows``.

    ``reading`` is the pool as the selector's model reads it, ``read`` the signals that were read
    off that model, by name. ``folder`` is where a learning proxy keeps what a kill must not cost,
    ``orders`` where greedy runs are kept, for the selectors that make some.
    """

    parts: Components
    rows: Sequence[Row]
    reading: Reading | None
    read: Mapping[str, np.ndarray]
    k: int
    seed: int
    folder: Path
    orders: Orders | None = None

    def choose(self) -> Selection:
        """The selector's choice; only rows with something to learn from are eligible."""
        if self.parts.schedule.windowed:
            return self._in_windows()
        if proxy_learns(self.parts):
            return self._in_rounds()
        if self.orders and self.signals.gradients is not None:
            return cast("Spice", self.parts.selector).select_gradients(
                self.signals.gradients,
                self.signals.ids,
                self.k,
                self._eligible,
                self.orders,
                weights=self.signals.weights,
                sources=self.signals.sources,
            )
        rng = np.random.default_rng(self.seed)
        return self.parts.selector.select(self.signals, self.k, rng, self._eligible)

    def health(self, selection: Selection) -> dict[str, Any] | None:
        """What is wrong with the gradients that the selector chose by, if it chose by a store's."""
        if not self.orders or self.signals.gradients is None:
            return None
        selector = cast("Spice", self.parts.selector)
        seen = selector.seen(self.signals.gradients, self._eligible, self.signals.weights)

        def choose(eligible: Sequence[int]) -> list[int]:
            return selector.picks(seen, self.signals.ids, self.k, eligible, self.signals.sources)

        # What is wrong with a gradient is told at its own length, whatever the choice is made by.
        return examine(self.signals.gradients, self.rows, self._eligible, selection.indices, choose)

    def trust(self, selection: Selection) -> dict[str, Any] | None:
        """How far the rows were trusted, if they were weighed."""
        if self.signals.reliability is None:
            return None
        return examine_trust(self.signals.reliability, self.rows, self._eligible, selection)

    @cached_property
    def signals(self) -> Signals:
        """What is known of every row."""
        examples = self.reading.examples if self.reading else []
        return Signals(
            ids=[row.id for row in self.rows],
            sources=[row.source for row in self.rows],
            lengths=np.array([e.supervised for e in examples] or [0] * len(self.rows)),
            **self.read,
        )

    @property
    def _eligible(self) -> Sequence[int]:
        if self.reading is None:
            return range(len(self.rows))
        return np.flatnonzero(self.signals.lengths).tolist()

    def _in_windows(self) -> Selection:
        from spice.schedules.window_by_window import PoolSchedule, choose

        options = cast("Pools", self.parts.schedule)
        windows = options.windows(self.signals.ids, self._eligible, self.seed)
        say("selection", f"{len(windows):,} windows of {options.pool_size} rows")
        module = PoolSchedule(
            self._fresh_adapter(),
            cast("Spice", self.parts.selector),
            self.parts.extraction,
            options,
            self._proxys.examples,
            self.signals.ids,
            windows,
            self.k,
            folder=self.folder,
            pad_id=self._proxys.pad_id,
            seed=self.seed,
        )
        return choose(module, self.parts.machine.trainer_arguments())

    def _in_rounds(self) -> Selection:
        from spice.schedules.rounds import LeadRounds, choose

        selector = cast("Lead", self.parts.selector)
        rounds = selector.begin(self.signals, self.k, self.seed, self._eligible)
        say("selection", f"{len(rounds.groups)} clusters of difficulty")
        module = LeadRounds(
            self._fresh_adapter(),
            rounds,
            self._proxys.examples,
            batch_size=self.parts.extraction.batch_size,
            folder=self.folder,
            pad_id=self._proxys.pad_id,
            seed=self.seed,
        )
        return choose(module, self.parts.machine.trainer_arguments())

    @property
    def _proxys(self) -> Reading:
        """The proxy's reading; a learning proxy is always there."""
        assert self.reading is not None
        return self.reading

    def _fresh_adapter(self) -> PeftModel:
        """The proxy with the adapter that gradients are read at."""
        return self.parts.extraction.attach(self._proxys.checkpoint.load())
