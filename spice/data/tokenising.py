"""A pool made into tokens by several processes; how many changes nothing."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from spice.data.token_table import Packed, pack
from spice.distributed import watching
from spice.progress import progress

if TYPE_CHECKING:
    from spice.data.rendering import Renderer
    from spice.records import Row

PART = 2048  # rows that a process is given at once
FEW = 4 * PART  # rows that are done before other processes have started

Make = Callable[[], "Renderer"]


class Part(NamedTuple):
    """Some rows' tokens, and which of them cannot be written, by their place in the part."""

    tokens: Packed
    lost: dict[int, str]


class _Worker:
    """Of a process: how it reads rows."""

    renderer: Renderer | None = None


def tokenise(rows: Sequence[Row], renderer: Renderer, make: Make, workers: int) -> Iterator[Part]:
    """The rows' tokens, part by part in their order; ``make`` gives other processes a renderer."""
    parts = (rows[start : start + PART] for start in range(0, len(rows), PART))
    with (
        _mapped(renderer, make, workers if len(rows) > FEW else 1) as mapped,
        progress("tokens", len(rows), "rows") as tell,
    ):
        for part in mapped(parts):
            yield part
            tell(len(part.tokens.lengths))


@contextmanager
def _mapped(
    renderer: Renderer, make: Make, workers: int
) -> Iterator[Callable[[Iterator[Sequence[Row]]], Iterator[Part]]]:
    if workers == 1:
        yield lambda parts: (_part(renderer, part) for part in parts)
        return
    spawn = multiprocessing.get_context("spawn")  # threads of ours would not survive a fork
    with ProcessPoolExecutor(workers, spawn, _begin, (make,)) as pool:
        try:
            yield partial(_few_at_a_time, pool, workers)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _few_at_a_time(
    pool: ProcessPoolExecutor, workers: int, parts: Iterator[Sequence[Row]]
) -> Iterator[Part]:
    """As ``map``, which would take all rows before it gave the first back."""
    waiting = []
    for part in parts:
        waiting.append(pool.submit(_by_worker, part))
        if len(waiting) > 2 * workers:
            yield waiting.pop(0).result()
    yield from (future.result() for future in waiting)


def _begin(make: Make) -> None:
    """A process that obeys the one that started it alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    watching.with_parent()
    _Worker.renderer = make()


def _by_worker(rows: Sequence[Row]) -> Part:
    assert _Worker.renderer is not None
    return _part(_Worker.renderer, rows)


def _part(renderer: Renderer, rows: Sequence[Row]) -> Part:
    examples, lost = renderer.attempt(rows)
    return Part(pack(examples), lost)


def lost_rows(parts: Sequence[dict[int, str]]) -> dict[int, str]:
    """Which of all rows cannot be written, from what the parts told."""
    shifted = ({PART * i + row: why for row, why in lost.items()} for i, lost in enumerate(parts))
    return dict(chain.from_iterable(lost.items() for lost in shifted))
