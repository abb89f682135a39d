"""``schedule=rounds``: the proxy trained on what each round chooses, as LEAD does it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from spice.data import token_table
from spice.distributed import team
from spice.distributed.per_rank import PerRank
from spice.errors import InputError
from spice.gradients.work import Work
from spice.messages import say
from spice.schedules.base import Request, Schedule
from spice.selectors.base import Method, OnlineSelector
from spice.values import component

if TYPE_CHECKING:
    from spice.gradients.extraction import Extraction
    from spice.records import Selection


@component
class Rounds(Schedule):
    """The selector draws a round, the proxy trains on it, and the selector sees what came of it."""

    def check(self, selector: Method, name: str) -> None:
        """Selectors that choose in rounds.

        Raises:
            InputError: the selector picks all at once.
        """
        if not isinstance(selector, OnlineSelector):
            raise InputError(
                f"schedule=rounds has no use for selector={name}, which picks all at once; take "
                "schedule=global"
            )

    def fingerprint(self, extraction: Extraction) -> dict[str, Any]:
        """The adapter that learns, and the batches in which it does."""
        return {**extraction.fingerprint(), "batch_size": extraction.batch_size}

    def work(self, request: Request) -> list[Work]:
        """Each round's rows: their losses before and after, and the step between."""
        tokenized = request.proxy()
        taught = tokenized.lengths > 0
        lengths = token_table.lengths(tokenized.examples)[taught].tolist()
        share = request.k / max(len(lengths), 1)
        return [
            Work("forward", tokenized, lengths, 2 * share),
            Work("training", tokenized, lengths, share, request.extraction.batch_size),
        ]

    def choose(self, request: Request) -> Selection:
        """Round after round, until the budget is reached."""
        # Keeps torch out of start-up.
        from spice.schedules.round_by_round import RoundByRound, choose

        selector, tokenized = request.selector, request.proxy()
        assert isinstance(selector, OnlineSelector)
        rounds = selector.begin(request.signals, request.k, request.seed, request.eligible)
        say("selection", f"{len(rounds.groups)} clusters of difficulty")
        made = PerRank(
            partial(
                RoundByRound.attached,
                request.extraction,
                tokenized.checkpoint,
                rounds,
                tokenized.examples,
                limit=request.extraction.batch_limit,
                folder=request.folder,
                pad_id=tokenized.pad_id,
                seed=request.seed,
            )
        )
        return team.everywhere(choose, made, request.trainer)[0]
