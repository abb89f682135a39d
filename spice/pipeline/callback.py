"""What Hydra calls at both ends of a sweep."""

from __future__ import annotations

import sys
from typing import Any

from hydra.experimental.callback import Callback

from spice.errors import InputError
from spice.pipeline import launchers
from spice.pipeline.sweep import conclude


class MultirunTable(Callback):
    """Hydra callback: before a multirun its launcher is looked at, and its table is behind it."""

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """End with exit code 2 where :func:`spice.pipeline.launchers.check` refuses."""
        try:
            launchers.check(config)
        except InputError as error:  # Hydra makes a warning of any exception
            print(f"spice: {error}", file=sys.stderr)
            sys.exit(2)
        launchers.prepare(config)

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Hand over to :func:`spice.pipeline.sweep.conclude`."""
        conclude(config)
