"""Per-sample gradients as a signal: of the pool, and of the validation examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spice.data.token_table import eligible_rows
from spice.errors import InputError
from spice.gradients import work
from spice.signals.base import Signal
from spice.storage.coding import row_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from spice.data.rendering import Example
    from spice.gradients.extraction import Extraction
    from spice.gradients.work import Work
    from spice.signals.source import Source
    from spice.submodular.kernel import Rows


@dataclass(frozen=True)
class Gradients(Signal):
    """Each row's gradient at a fresh adapter, n × d; they stay on disk and are read in blocks."""

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """How they are read and stored."""
        return extraction.fingerprint()

    def build(self, folder: Path, source: Source) -> None:
        """Read every row that teaches something."""
        _extract(source, source.tokenized.examples, source.ids, folder, source.key)

    def load(self, folder: Path, source: Source) -> Rows:
        """n × d."""
        from spice.gradients.store import read  # keeps torch out of start-up

        return read(folder, source.extraction, source.tokenized.examples, source.ids, source.key)

    def work(self, source: Source) -> list[Work]:
        """The gradients of the whole pool."""
        return [work.gradients(source.tokenized, source.tokenized.examples)]

    def size(self, source: Source, coordinates: int) -> int:
        """Bytes of a stored row."""
        return row_bytes(source.extraction.dtype, coordinates)


def of_targets(source: Source, folder: Path) -> Rows:
    """Gradients of the validation examples, m × d, where those of the rows are read.

    Raises:
        InputError: none of the examples fits the proxy's context.
    """
    from spice.gradients.store import read

    examples = source.tokenized.renderer.encode(source.targets)
    if not eligible_rows(examples):
        raise InputError("none of the validation examples fits the proxy's context")
    ids, about = [row.id for row in source.targets], {**source.key, "of": "targets"}
    _extract(source, examples, ids, folder / "targets", about)
    return read(folder / "targets", source.extraction, examples, ids, about)


def _extract(
    source: Source,
    examples: Sequence[Example],
    ids: Sequence[str],
    folder: Path,
    about: dict[str, Any],
) -> None:
    from spice.gradients.store import extract

    extract(
        source.tokenized.checkpoint.load,
        source.extraction,
        examples,
        ids,
        folder=folder,
        metadata=about,
        pad_id=source.tokenized.pad_id,
        trainer=source.trainer,
        say=source.say,
    )
