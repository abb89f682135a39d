"""All that a run is refused for before anything costly: a run stops at the first of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from spice.data.row_table import sources_of
from spice.errors import InputError
from spice.evaluation.development import BenchmarkExamples
from spice.pipeline import run_folder
from spice.pipeline.machine import quiet
from spice.pipeline.plan.asking import items
from spice.pipeline.steps import export
from spice.schedules.whole_pool import WholePool
from spice.selectors.base import GradientSelector
from spice.storage.files import check_writable

if TYPE_CHECKING:
    from spice.pipeline.draft import Draft

    Check = Callable[[], object]


def checks(draft: Draft) -> Iterator[Check]:
    """Each raises InputError where something is wrong; the quick ones come first."""
    yield lambda: draft.parts
    yield lambda: draft.group("trainer").check()
    yield from (partial(_check_division, draft, role) for role in ("proxy", "model"))
    yield from (partial(draft.checkpoint, role) for role in draft.readers)
    yield from _of_places(draft)
    yield lambda: draft.others
    yield lambda: _check_data_sets(draft)
    yield lambda: draft.pool
    yield lambda: draft.k
    yield lambda: draft.group("selector").check_sources(sources_of(draft.pool.rows))
    yield lambda: _check_partitions(draft)
    yield quiet  # which takes transformers; from here on it is at work
    for role in draft.readers:
        yield partial(draft.renderer, role)
        yield partial(draft.bare, role)
        yield partial(draft.adapted, role)


def _of_places(draft: Draft) -> Iterator[Check]:
    yield lambda: run_folder.check(draft.folder, draft.config)
    yield lambda: check_writable(draft.folder, "hydra.run.dir")
    yield lambda: export.check(draft.parts.settings.export)
    yield lambda: _check_cache(draft.cache)


def _check_division(draft: Draft, role: str) -> None:
    """bitsandbytes' layers are more than a tensor each, and are not divided."""
    bits = draft.group(role).quantization
    if bits and draft.group("trainer").parts > 1:
        raise InputError(
            f"trainer.strategy=fsdp: {role}.quantization={bits} is not divided among processes; "
            "leave one of the two out"
        )


def _check_partitions(draft: Draft) -> None:
    """Whether the greedy over the whole pool fits into memory, if there is one."""
    selector = draft.group("selector")
    if isinstance(selector, GradientSelector) and isinstance(draft.group("schedule"), WholePool):
        selector.parts(len(draft.pool.rows), draft.k)


def _check_cache(cache: Path) -> None:
    """One that is there but cannot be written may hold all that is needed."""
    if not cache.is_dir():
        check_writable(cache, "cache_dir")


def _check_data_sets(draft: Draft) -> None:
    aims = draft.group("selector").aims
    aimed_at = aims and isinstance(draft.group("validation"), BenchmarkExamples)
    suite, cache = draft.group("benchmarks"), draft.cache / "datasets"
    suite.check_data(cache, aimed_at)
    for name in suite.names:
        if suite.tasks[name].split is not None and suite.skip_reason(name) is None:
            items(suite, name, cache)  # which names the splits that there are
