"""Each signal of a pool as a stage of its own, shared by every run that wants the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice.signals.source import Source
from spice.storage import provenance
from spice.storage.closure import code_version
from spice.storage.stages import digest

if TYPE_CHECKING:
    from spice.gradients.extraction import Extraction
    from spice.gradients.work import Work
    from spice.models.checkpoint import Checkpoint
    from spice.models.tokenized import Reading
    from spice.records import Row
    from spice.signals.base import Signal
    from spice.storage.stages import Done
    from spice.submodular.kernel import Rows

READERS = (
    "spice.records",
    "spice.data.rendering",
    "spice.models.checkpoint",
    "spice.models.attention",
    "spice.data.batches",
    "spice.signals",
)
LIBRARIES = ("torch", "transformers", "peft")


@dataclass
class SignalStages:
    """What a selector needs of a pool as the proxy reads it.

    ``needs`` are the selector's, ``targets`` gives the validation examples to those that aim at
    some, ``reading_of`` the pool as another checkpoint reads it, ``run(stage, key, build)`` makes a
    stage or finds it, ``say(stage, message)`` tells.
    """

    needs: Mapping[str, Signal | None]
    rows: Sequence[Row]
    pool: str
    reading: Reading
    extraction: Extraction
    targets: Callable[[], list[Row]]
    reading_of: Callable[[Checkpoint], Reading]
    trainer: dict[str, Any]
    run: Callable[[str, dict[str, Any], Callable[[Path], None]], Done]
    say: Callable[[str, str], None]

    @cached_property
    def keys(self) -> dict[str, dict[str, Any]]:
        """What decides each signal; ``lengths`` are the reading's own and have none."""
        makers: dict[str, Any] = dict(self.needs)
        if "gradients" in makers:
            makers["gradients"] = self.extraction
        return {name: self._key(maker) for name, maker in makers.items() if maker}

    def _key(self, maker: Any) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if getattr(maker, "aims", False):
            more["validation"] = [(row.id, row.source) for row in self.targets()]
        if getattr(maker, "of_gradients", False):
            more["gradients"] = digest(self._key(self.extraction))
        if also := getattr(maker, "checkpoints", None):
            more["also read by"] = [self.reading_of(checkpoint).view for checkpoint in also]
        versions = provenance.versions()
        return {
            "data": self.pool,
            **self.reading.view,
            **maker.fingerprint(),
            **more,
            "code": code_version(*READERS),
            "versions": {package: versions[package] for package in LIBRARIES},
        }

    def read(self) -> dict[str, Any]:
        """Every signal of all rows; beside the targets' embeddings, whose they are."""
        import numpy as np

        found = {
            name: self.gradients if name == "gradients" else self._read(name, key)
            for name, key in self.keys.items()
        }
        if "target_embeddings" in found:
            found["target_sources"] = np.array([row.source for row in self.targets()])
        return found

    @cached_property
    def gradients(self) -> Rows:
        """Those of the pool, made where they are missing."""
        return self._read("gradients", self._key(self.extraction))

    def work(self, name: str) -> list[Work]:
        """What reading a signal makes models go over."""
        from spice.gradients.work import forward, gradients

        signal: Any = self.needs[name]
        reading = self.reading
        if signal is None:
            return [gradients(reading, reading.examples)]
        if hasattr(signal, "build"):
            return signal.work(self._source(name, getattr(signal, "aims", False)))
        return [forward(reading, signal.texts(reading.renderer, self.rows, reading.examples))]

    def pairs(self, name: str) -> tuple[int, int]:
        """How many cosines weights are made of, and how many of them are held at a time."""
        signal: Any = self.needs[name]
        return signal.pairs(self._source(name, getattr(signal, "aims", False)))

    def _read(self, name: str, key: dict[str, Any]) -> Any:
        from spice.gradients import store as gradients
        from spice.signals import forward

        signal: Any = self.needs[name]
        if hasattr(signal, "build"):  # one that needs more than passes over the pool
            source = self._source(name, getattr(signal, "aims", False))
            done = self.run(name, key, lambda partial: signal.build(partial, source))
            return signal.load(done.folder)
        reading, ids = self.reading, [row.id for row in self.rows]
        passing: dict[str, Any] = {
            "metadata": key,
            "pad_id": reading.pad_id,
            "trainer": self.trainer,
            "say": lambda message: self.say(name, message),
        }
        module: Any = gradients
        given: tuple[Any, ...] = (self.extraction, reading.examples, ids)
        if signal is not None:
            texts = signal.texts(reading.renderer, self.rows, reading.examples)
            module, given = forward, (signal, texts, ids, self.extraction)

        def build(partial: Path) -> None:
            module.extract(reading.checkpoint.load(), *given, folder=partial, **passing)

        done = self.run(name, key, build)
        return module.read(done.folder, *given, key)

    def _source(self, name: str, aims: bool) -> Source:
        return Source(
            rows=self.rows,
            reading=self.reading,
            extraction=self.extraction,
            targets=self.targets() if aims else [],
            reading_of=self.reading_of,
            trainer=self.trainer,
            say=lambda message: self.say(name, message),
            gradients=lambda: self.gradients,
        )
