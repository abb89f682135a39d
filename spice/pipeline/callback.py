"""What Hydra calls at the end of a sweep."""

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback

from spice.pipeline.sweep import conclude


class MultirunTable(Callback):
    """Hydra callback: at the end of a multirun, its table."""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Hand over to :func:`spice.pipeline.sweep.conclude`."""
        conclude(config)
