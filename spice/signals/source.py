"""What signals are read from: a pool as the proxy reads it, and the means to read more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spice.data.row_table import ids_of

if TYPE_CHECKING:
    from spice.gradients.extraction import Extraction
    from spice.models.checkpoint import Checkpoint
    from spice.models.tokenized import Tokenized
    from spice.records import Row
    from spice.submodular.kernel import Rows


@dataclass(frozen=True)
class Source:
    """The n rows of a pool as the proxy reads them.

    ``key`` is the signal's own. ``targets`` are the validation examples, empty for a signal that
    does not aim at any; ``tokenized_by`` is the same pool as another checkpoint reads it,
    ``gradients`` gives the rows' gradients, n × d, made where they are missing.
    """

    rows: Sequence[Row]
    tokenized: Tokenized
    extraction: Extraction
    key: dict[str, Any]
    targets: Sequence[Row]
    tokenized_by: Callable[[Checkpoint], Tokenized]
    trainer: dict[str, Any]
    say: Callable[[str], None]
    gradients: Callable[[], Rows]

    @property
    def ids(self) -> list[str]:
        """The rows' ids, n."""
        return ids_of(self.rows)
