"""The pool as tokens: what cannot be rendered for the target is told before the proxy is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spice.messages import warn
from spice.pipeline.steps.base import Step

if TYPE_CHECKING:
    from spice.pipeline.run import Run


class ReadTokens(Step):
    """Tokenises the pool for the proxy and for the target; ``readings`` keeps both."""

    name = "tokens"

    def execute(self, run: Run) -> None:
        """Render every row.

        Raises:
            InputError: a template cannot write one.
        """
        for role, checkpoint in (("proxy", run.parts.proxy), ("model", run.parts.model)):
            if checkpoint:
                run.readings.of(role, checkpoint)
                for told in run.draft.notes(role):
                    warn("lora", f"{role}: {told}")
