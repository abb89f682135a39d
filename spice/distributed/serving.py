"""What a helper is: a process that does what the run asks of all, and nothing of its own.

``python -m spice.distributed.serving`` is how the run starts one; of those that torchrun or srun
start, all but the first come here.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from types import FrameType
from typing import NoReturn

from spice.distributed import team, watching
from spice.distributed.ranks import Rank, given
from spice.errors import InputError

LAST_MOMENT = 60.0  # seconds that a helper stays where all are told to end, for the run to save


def serve(rank: Rank) -> NoReturn:
    """Obey the run until it has no more orders, or is gone; then end."""
    _be_quiet()
    _leave_signals_to_the_run()
    watching.with_parent()
    try:
        team.meet(rank)
        if team.join():
            team.obey()
    except RuntimeError:  # the run is gone
        os._exit(1)
    os._exit(0)  # torch's threads need no long farewell, and some do not survive one


def _be_quiet() -> None:
    """Everything is said by the run."""
    logging.disable(logging.CRITICAL)
    warnings.filterwarnings("ignore")
    os.environ["TQDM_DISABLE"] = "1"


def _leave_signals_to_the_run() -> None:
    """Who stops a run tells all of its processes, and the first may need the others to save."""

    def last_moment(number: int, frame: FrameType | None) -> None:
        ending = threading.Timer(LAST_MOMENT, os._exit, [128 + number])
        ending.daemon = True
        ending.start()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, last_moment)


def main() -> None:
    """Serve as what the environment says.

    Raises:
        InputError: it says nothing of the kind.
    """
    rank = given()
    if rank is None or rank.number == 0:
        raise InputError("spice starts its helpers itself: spice trainer.devices=2 …")
    serve(rank)


if __name__ == "__main__":
    main()
