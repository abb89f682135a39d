"""Each signal of a pool as a stage of its own, shared by every run that wants the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice.signals.gradients import Gradients
from spice.signals.source import Source
from spice.storage.closure import code_version, library_versions
from spice.storage.stages import digest

if TYPE_CHECKING:
    from spice.gradients.extraction import Extraction
    from spice.models.checkpoint import Checkpoint
    from spice.models.tokenized import Tokenized
    from spice.records import Row
    from spice.signals.base import Signal
    from spice.storage.stages import Done
    from spice.submodular.kernel import Rows

GRADIENTS = "gradients"


@dataclass
class KeyedSignals:
    """What a selector needs of a pool as the proxy reads it.

    ``needs`` are the selector's, ``targets`` gives the validation examples to those that aim at
    some, ``tokenized_by`` the pool as another checkpoint reads it, ``stage(name, key, build)``
    makes a stage or finds it, ``say(name, message)`` tells.
    """

    needs: Mapping[str, Signal]
    rows: Sequence[Row]
    pool: str
    tokenized: Tokenized
    extraction: Extraction
    targets: Callable[[], list[Row]]
    tokenized_by: Callable[[Checkpoint], Tokenized]
    trainer: dict[str, Any]
    stage: Callable[[str, dict[str, Any], Callable[[Path], None]], Done]
    say: Callable[[str, str], None]
    _found: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def keys(self) -> dict[str, dict[str, Any]]:
        """What decides each signal."""
        return {name: self._key(signal) for name, signal in self.needs.items()}

    def _key(self, signal: Signal) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if signal.aims:
            more["validation"] = [(row.id, row.source) for row in self.targets()]
        if signal.of_gradients:
            more[GRADIENTS] = digest(self._key(Gradients()))
        if readers := signal.readers():
            more["also read by"] = [self.tokenized_by(checkpoint).view for checkpoint in readers]
        made_by = type(signal).__module__, "spice.models.tokenized"
        return {
            "data": self.pool,
            **self.tokenized.view,
            **signal.fingerprint(self.extraction),
            **more,
            "code": code_version(*made_by),
            "versions": library_versions(*made_by),
        }

    def read(self) -> dict[str, Any]:
        """Every signal of all rows, made where it is missing."""
        return {name: self._read(name) for name in self.needs}

    def _read(self, name: str) -> Any:
        if name not in self._found:
            self._found[name] = self._make(name)
        return self._found[name]

    def _make(self, name: str) -> Any:
        signal = Gradients() if name == GRADIENTS else self.needs[name]
        source = self.source(name)
        done = self.stage(name, source.key, lambda partial: signal.build(partial, source))
        return signal.load(done.folder, source)

    def gradients(self) -> Rows:
        """Those of the pool, n × d, made where they are missing."""
        return self._read(GRADIENTS)

    def source(self, name: str) -> Source:
        """What a signal is read from."""
        signal = Gradients() if name == GRADIENTS else self.needs[name]
        return Source(
            rows=self.rows,
            tokenized=self.tokenized,
            extraction=self.extraction,
            key=self._key(signal),
            targets=self.targets() if signal.aims else [],
            tokenized_by=self.tokenized_by,
            trainer=self.trainer,
            say=lambda message: self.say(name, message),
            gradients=self.gradients,
        )
