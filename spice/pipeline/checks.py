"""All that a run is refused for before anything costly: a run stops at the first of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from spice.evaluation.at_hand import check_data
from spice.pipeline import run_folder
from spice.pipeline.machine import quiet
from spice.storage.files import check_writable

if TYPE_CHECKING:
    from spice.pipeline.draft import Draft

    Check = Callable[[], object]

GROUPS = ("data", "template", "selector", "schedule", "gradients", "lora", "finetune",
          "benchmarks", "validation", "trainer", "logger", "proxy", "model")  # fmt: skip


def checks(draft: Draft) -> Iterator[Check]:
    """Each raises InputError where something is wrong; the quick ones come first."""
    yield from (partial(draft.group, name) for name in GROUPS if draft.wants(name))
    yield from _of_options(draft)
    yield from _of_places(draft)
    yield lambda: draft.others
    yield lambda: draft.pool
    yield lambda: draft.k
    yield lambda: draft.group("selector").check_sources(row.source for row in draft.pool.rows)
    yield lambda: check_data(draft.group("benchmarks"), draft.cache / "datasets")
    yield quiet  # which takes transformers; from here on it is at work
    for role in draft.readers:
        yield partial(draft.renderer, role)
        yield partial(draft.bare, role)
        yield partial(draft.adapted, role)


def _of_options(draft: Draft) -> Iterator[Check]:
    """What is told from options and the names of files."""
    name = draft.config.names.selector
    yield lambda: draft.group("schedule").check(draft.group("selector"), name)
    yield lambda: draft.group("benchmarks").check()
    yield lambda: draft.group("trainer").check()
    yield from (partial(draft.checkpoint, role) for role in draft.readers)


def _of_places(draft: Draft) -> Iterator[Check]:
    yield lambda: run_folder.check(draft.folder)
    yield lambda: check_writable(draft.folder, "hydra.run.dir")
    yield lambda: check_writable(draft.cache, "cache_dir")
