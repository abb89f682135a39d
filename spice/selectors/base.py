"""What stands behind ``selector=``: three kinds, by what they choose from.

A :class:`Selector` is handed signals and picks. A :class:`GradientSelector` needs nothing but
gradients to pick, so it also chooses from windows, and its greedy runs are kept for other budgets.
An :class:`OnlineSelector` chooses in rounds, the proxy learning in between.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from spice.records import Selection, Signals
    from spice.signals.base import Signal
    from spice.submodular.kept_runs import KeptRuns
    from spice.submodular.kernel import Rows


class Method(ABC):  # noqa: B024 (most need nothing, and its children pick)
    """What all of them say of themselves before anything is read."""

    @property
    def needs(self) -> Mapping[str, Signal]:
        """The signals that have to be read off the proxy, by name; without any it is not loaded."""
        return {}

    @property
    def reads_pool(self) -> bool:
        """Whether the proxy has to see the pool, if only for the lengths of its rows."""
        return bool(self.needs)

    @property
    def aims(self) -> bool:
        """Whether a signal that it needs is read off validation examples."""
        return any(signal.aims for signal in self.needs.values())

    def fingerprint(self) -> dict[str, Any]:
        """What decides its choice beside its options, such as the content of files it reads."""
        return {}

    def check_sources(self, sources: Iterable[str]) -> None:  # noqa: B027 (most have no demands)
        """Refuse a pool without the sources that the options name.

        Raises:
            InputError: an option names a source that is not there.
        """


class Selector(Method):
    """Signals and a count in, a selection out."""

    @abstractmethod
    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """Pick k of the ``eligible`` positions, best first."""


class GradientSelector(Selector):
    """A selector that picks from gradients alone; ``penalty`` is its λ.

    :class:`spice.selectors.spice.Spice` has the arguments in full.
    """

    penalty: float

    @abstractmethod
    def select_gradients(
        self,
        gradients: Rows,
        ids: Sequence[str | int],
        k: int,
        eligible: Sequence[int],
        kept: KeptRuns | None = None,
        certified: bool = True,
        weights: np.ndarray | None = None,
        sources: Sequence[str] = (),
    ) -> Selection:
        """Pick from gradients n × d; ``kept`` are greedy runs for other budgets."""

    @abstractmethod
    def seen(
        self, gradients: Rows, eligible: Sequence[int], weights: np.ndarray | None = None
    ) -> Rows:
        """Gradients n × d at the selector's scale."""

    @abstractmethod
    def picks(
        self,
        seen: Rows,
        ids: Sequence[str | int],
        k: int,
        eligible: Sequence[int],
        sources: Sequence[str] = (),
    ) -> list[int]:
        """The choice alone, from gradients n × d at the selector's scale."""

    @property
    @abstractmethod
    def of_products(self) -> bool:
        """Whether gradients' inner products say all that it needs."""

    @abstractmethod
    def objective_options(self) -> dict[str, Any]:
        """The options that decide what greedy runs maximise, whatever their λ and length."""

    @abstractmethod
    def form_and_way(self, n: int, d: int, k: int) -> tuple[str, str]:
        """The form of its information, and the way to k picks of n × d."""

    @abstractmethod
    def parts(self, n: int, k: int) -> int:
        """Into how many parts n rows are cut for k picks."""

    @property
    @abstractmethod
    def stopping(self) -> dict[str, Any]:
        """What ends a run before its budget."""

    @abstractmethod
    def check_window(self) -> None:
        """Refuse to choose from one window at a time where that makes no sense.

        Raises:
            InputError: an option asks for what only the whole pool can tell.
        """


class OnlineSelector(Method):
    """A selector that sees what the proxy learned from its last picks."""

    @abstractmethod
    def begin(self, signals: Signals, k: int, seed: int, eligible: Sequence[int]) -> Any:
        """The state before the first round."""
