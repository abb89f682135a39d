"""What Hydra calls at both ends of a sweep."""

from __future__ import annotations

import sys
from typing import Any

from hydra.experimental.callback import Callback

from spice.errors import InputError
from spice.pipeline import jobs, launchers
from spice.pipeline.sweep import conclude


class MultirunTable(Callback):
    """Hydra callback: a multirun has its record from the start, and its table at the end."""

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """End with exit code 2 where the launcher is not there, or two jobs are the same."""
        try:
            launchers.check(config)
            jobs.begin(config)
        except InputError as error:  # Hydra makes a warning of any exception
            print(f"spice: {error}", file=sys.stderr)
            sys.exit(2)
        launchers.prepare(config)

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Hand over to :func:`spice.pipeline.sweep.conclude`; end with its exit code."""
        if code := conclude(config):
            sys.exit(code)
