"""What a signal is read from that needs more than passes over the pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spice.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from spice.gradients.extraction import Extraction
    from spice.models.checkpoint import Checkpoint
    from spice.models.tokenized import Reading
    from spice.records import Row
    from spice.signals.base import Signal
    from spice.submodular.kernel import Rows


@dataclass(frozen=True)
class Source:
    """The n rows of a pool as the proxy reads them, and the means to read more.

    ``targets`` are the validation examples, empty for a signal that does not aim at any;
    ``reading_of`` is the same pool as another checkpoint reads it, ``gradients`` gives the rows'
    gradients, n × d, made where they are missing.
    """

    rows: Sequence[Row]
    reading: Reading
    extraction: Extraction
    targets: Sequence[Row]
    reading_of: Callable[[Checkpoint], Reading]
    trainer: dict[str, Any]
    say: Callable[[str], None]
    gradients: Callable[[], Rows]

    @property
    def ids(self) -> list[str]:
        """The rows' ids, n."""
        return [row.id for row in self.rows]

    def forward(
        self,
        model: Any,
        signal: Signal,
        folder: Path,
        metadata: dict[str, Any],
        rows: Sequence[Row] | None = None,
        reading: Reading | None = None,
    ) -> np.ndarray:
        """A forward signal of the pool, or of other rows, off ``model``; kept in ``folder``."""
        from spice.signals import forward

        reading = reading or self.reading
        examples = reading.examples if rows is None else reading.renderer.encode(rows)
        rows = self.rows if rows is None else rows
        texts, ids = signal.texts(reading.renderer, rows, examples), [row.id for row in rows]
        forward.extract(
            model,
            signal,
            texts,
            ids,
            self.extraction,
            folder=folder,
            metadata=metadata,
            pad_id=reading.pad_id,
            trainer=self.trainer,
            say=self.say,
        )
        return forward.read(folder, signal, texts, ids, self.extraction, metadata)

    def gradients_of_targets(self, folder: Path) -> Rows:
        """Gradients of the validation examples, m × d, where those of the rows are read.

        Raises:
            InputError: none of the examples fits the proxy's context.
        """
        from spice.gradients import store as gradients

        examples = self.reading.renderer.encode(self.targets)
        if not gradients.eligible_rows(examples):
            raise InputError("none of the validation examples fits the proxy's context")
        ids = [row.id for row in self.targets]
        about = {"signal": "gradients of targets", **self.extraction.fingerprint()}
        to = folder / "targets"
        gradients.extract(
            self.reading.checkpoint.load(),
            self.extraction,
            examples,
            ids,
            folder=to,
            metadata=about,
            pad_id=self.reading.pad_id,
            trainer=self.trainer,
            say=self.say,
        )
        return gradients.read(to, self.extraction, examples, ids, about)
