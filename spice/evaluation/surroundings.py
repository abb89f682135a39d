"""lm-eval made quiet, offline and safe, and everything as before afterwards."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spice.errors import InputError
from spice.evaluation.code_execution.pass_at_k import PassAtK
from spice.evaluation.environment import environment
from spice.evaluation.prepared import load_prepared

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager


@functools.cache
def task_manager(folder: Path | None) -> TaskManager:
    """lm-eval's index of one folder with task files; of all its own tasks it takes seconds."""
    from lm_eval.tasks import TaskManager

    if folder is None:
        return TaskManager()
    return TaskManager(include_path=str(folder), include_defaults=False)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """All global random numbers from ``seed``, and afterwards as if none had been drawn."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count())
    try:
        with torch.random.fork_rng(devices=devices):
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """lm-eval, datasets and transformers without progress bars and chatter.

    Warnings of lm-eval about data and metrics still show, those about our way of using it do not.
    """
    import datasets
    import lm_eval.api.task
    import transformers

    levels = {name: logging.getLogger(name).level for name in ("lm_eval", "datasets")}
    verbosity = transformers.logging.get_verbosity()
    bars = datasets.are_progress_bars_disabled()
    for name in levels:
        logging.getLogger(name).setLevel(logging.WARNING)
    lm_eval.api.task.eval_logger.addFilter(_worth_showing)
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        with _replaced(lm_eval.api.task, "tqdm", lambda items, **_: items):
            yield
    finally:
        lm_eval.api.task.eval_logger.removeFilter(_worth_showing)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        transformers.logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()


def _worth_showing(record: logging.LogRecord) -> bool:
    hints = ("Custom kwargs can be passed", "using preconfigured rule")
    return not any(hint in record.getMessage() for hint in hints)


@contextlib.contextmanager
def mirrored(mirror: Path | None, cache: Path | None) -> Iterator[None]:
    """lm-eval's datasets from ``mirror/<org>/<name>`` and no network; no mirror, no change.

    What datasets prepares on disk goes under ``cache`` in either case; what tasks make of it is
    forgotten, since nothing would verify it.
    """
    import datasets
    import huggingface_hub.constants

    load = datasets.load_dataset

    def load_dataset(path: str, *args: Any, **kwargs: Any) -> Any:
        if mirror is not None and path.count("/") == 1 and not Path(path).exists():
            if not (mirror / path).is_dir():
                raise InputError(f"benchmarks.mirror lacks {path}: expected {mirror / path}")
            path = str(mirror / path)
        if cache is None or "cache_dir" in kwargs:
            return load(path, *args, **kwargs)
        return load_prepared(load, path, *args, cache=cache, **kwargs)

    with contextlib.ExitStack() as stack:
        stack.enter_context(_replaced(datasets, "load_dataset", load_dataset))
        stack.enter_context(_replaced(datasets.fingerprint, "_CACHING_ENABLED", False))
        if mirror is not None:
            for owner in (datasets.config, huggingface_hub.constants):
                stack.enter_context(_replaced(owner, "HF_HUB_OFFLINE", True))
            stack.enter_context(environment(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1"))
        yield


@contextlib.contextmanager
def sandboxed_code() -> Iterator[None]:
    """``evaluate.load("code_eval")`` answered by :class:`PassAtK` while tasks are built and run.

    Tasks load the metric when their module is imported, and keep it. So those modules are
    forgotten on the way in, lest one holds the unsafe metric, and on the way out. This is done
    for every benchmark: one that does not say that it runs code must not get hold of it either.
    """
    import evaluate

    load = evaluate.load

    def load_metric(path: str, *args: Any, **kwargs: Any) -> Any:
        return PassAtK() if path == "code_eval" else load(path, *args, **kwargs)

    _forget_task_modules()
    try:
        with _replaced(evaluate, "load", load_metric):
            yield
    finally:
        _forget_task_modules()


def _forget_task_modules() -> None:
    """Drop what lm-eval imported for its yaml files; it marks those modules with their mtime."""
    # vars and not hasattr, at which lazy modules would go and look
    marked = [name for name, module in list(sys.modules.items())
              if "__mtime__" in getattr(module, "__dict__", ())]  # fmt: skip
    for name in marked:
        del sys.modules[name]


@contextlib.contextmanager
def instruction_checkers(mirror: Path | None, seed: int) -> Iterator[None]:
    """What IFEval's checks draw on: nltk's data from the mirror, and a language detector that
    gives the same answer twice."""
    import langdetect
    import nltk

    paths = [*nltk.data.path, *([str(mirror / "nltk_data")] if mirror else [])]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_replaced(nltk.data, "path", paths))
        stack.enter_context(_replaced(langdetect.DetectorFactory, "seed", seed))
        if mirror is not None:
            stack.enter_context(_replaced(nltk, "download", lambda *_, **__: False))
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
