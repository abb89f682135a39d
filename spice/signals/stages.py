"""Each signal of a pool as a stage of its own, shared by every run that wants the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice import hardware
from spice.stages import code_version

if TYPE_CHECKING:
    import numpy as np

    from spice.reading import Reading
    from spice.records import Row
    from spice.signals import Signal
    from spice.signals.extraction import Extraction
    from spice.stages import Done

READERS = ("spice.records", "spice.rendering", "spice.models", "spice.batches", "spice.signals")
LIBRARIES = ("torch", "transformers", "peft")


@dataclass
class SignalStages:
    """What a selector needs of a pool as the proxy reads it.

    ``needs`` are the selector's, ``targets`` gives the validation examples to those that aim at
    some, ``run(stage, key, build)`` makes a stage or finds it, ``say(stage, message)`` tells.
    """

    needs: Mapping[str, Signal | None]
    rows: Sequence[Row]
    pool: str
    reading: Reading
    extraction: Extraction
    targets: Callable[[], list[Row]]
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
        aimed = {}
        if hasattr(maker, "build"):
            aimed = {"validation": [(row.id, row.source) for row in self.targets()]}
        versions = hardware.versions()
        return {
            "data": self.pool,
            **self.reading.view,
            **maker.fingerprint(),
            **aimed,
            "code": code_version(*READERS),
            "versions": {package: versions[package] for package in LIBRARIES},
        }

    def read(self) -> dict[str, np.ndarray]:
        """Every signal of all rows."""
        return {name: self._read(name, key) for name, key in self.keys.items()}

    def _read(self, name: str, key: dict[str, Any]) -> np.ndarray:
        from spice.signals import forward, gradients

        reading, signal = self.reading, self.needs[name]
        ids = [row.id for row in self.rows]
        passing: dict[str, Any] = {
            "trainer": self.trainer,
            "say": lambda message: self.say(name, message),
        }
        if hasattr(signal, "build"):  # one that needs more than passes over the pool
            aimed: Any = signal
            inputs = (reading, ids, self.targets(), self.extraction)
            done = self.run(name, key, lambda partial: aimed.build(partial, *inputs, **passing))
            return aimed.load(done.folder)
        module: Any = gradients
        given: tuple[Any, ...] = (self.extraction, reading.examples, ids)
        if signal is not None:
            texts = signal.texts(reading.renderer, self.rows, reading.examples)
            module, given = forward, (signal, texts, ids, self.extraction)
        passing |= {"metadata": key, "pad_id": reading.pad_id}

        def build(partial: Path) -> None:
            module.extract(reading.checkpoint, *given, folder=partial, **passing)

        done = self.run(name, key, build)
        return module.read(done.folder, *given, key)
