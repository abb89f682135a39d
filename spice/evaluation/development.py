"""What a selection may aim at: the benchmarks' own development examples, never a test item."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen

from spice.data.files import expand
from spice.data.identity import identify
from spice.data.pool import FilePool
from spice.data.unread import told
from spice.errors import InputError
from spice.evaluation.benchmarks import Benchmark, Suite
from spice.messages import warn
from spice.records import Row
from spice.values import Count, FilePaths, Told, component


@component
class BenchmarkExamples:
    """``validation=benchmarks``: up to ``per_task`` examples of each (sub)task of the suite.

    They are what lm-eval shows as shots (GSM8K's and MMLU's few-shot splits, BBH's and MBPP's
    worked examples), else the validation split, else the training split; the first ones. A task
    that has none of these, or scores just that split, gives none.
    """

    per_task: Count

    def rows(self, suite: Suite, cache: Path) -> list[Row]:
        """The examples; ``source`` is ``benchmark/subtask``.

        Raises:
            InputError: no benchmark of the suite has development examples.
        """
        from spice.evaluation import surroundings  # keeps lm-eval out of start-up

        found: list[Row] = []
        mirror = suite.mirror_path
        with (
            surroundings.quiet(),
            surroundings.mirrored(mirror, cache),
            surroundings.sandboxed_code(),
        ):
            for name in suite.names:
                benchmark = suite.tasks[name]
                if benchmark.punkt:  # instructions of IFEval, which has nothing but its test
                    continue
                for task_name, task in _tasks(benchmark).items():
                    found += self._of_task(f"{name}/{task_name}", task, benchmark.split)
        if not found:
            raise InputError(
                "validation=benchmarks: the benchmarks give no development examples; choose "
                "benchmarks that have some, or bring your own by validation=jsonl"
            )
        return identify(found)

    def _of_task(self, name: str, task: Any, scored: str | None) -> list[Row]:
        # lm-eval scores a task's validation split where it has no test split.
        scored = scored or task.config.test_split or task.config.validation_split
        docs = _development_docs(task, scored)
        return [
            Row("", _question(task, doc), "", _answer(task, doc), name)
            for doc in list(docs)[: self.per_task]
        ]


@component
class FileExamples:
    """``validation=jsonl``: rows of files, whose ``source`` is ``benchmark/subtask`` or a name."""

    paths: Annotated[FilePaths, MinLen(1), Told("must be a list of files, as in [a.jsonl,b.jsonl]")]

    def check(self) -> None:
        """Refuse files that are not there.

        Raises:
            InputError: so it is.
        """
        for path in self.paths:
            expand(path, "validation.paths")

    def rows(self, suite: Suite, cache: Path) -> list[Row]:
        """All rows of the files; what else they hold is told."""
        pool = FilePool(self.paths, None, "error", key="validation").load()
        for line in (*pool.notes, *told(pool.unread)):
            warn("validation", line)
        return list(pool.rows)


def _tasks(benchmark: Benchmark) -> dict[str, Any]:
    from spice.evaluation import surroundings

    with contextlib.redirect_stdout(io.StringIO()):
        return dict(surroundings.task_manager(benchmark.folder).load([benchmark.task])["tasks"])


def _development_docs(task: Any, scored: str | None) -> Sequence[Any]:
    """Documents of a split that is not scored; empty where there is none."""
    shots = task.fewshot_cfg
    if shots.split is not None and shots.split != scored:
        return task.fewshot_docs()
    if shots.split is None and shots.samples is not None:
        return task.fewshot_docs()
    for split, docs in (
        (task.config.validation_split, task.validation_docs),
        (task.config.training_split, task.training_docs),
    ):
        if split is not None and split != scored:
            return docs()
    return []


def _question(task: Any, doc: Any) -> str:
    return str(task.doc_to_text(doc, task.fewshot_cfg.doc_to_text)).strip()


def _answer(task: Any, doc: Any) -> str:
    target = task.doc_to_target(doc, task.fewshot_cfg.doc_to_target)
    if task.config.doc_to_choice and isinstance(target, int):
        target = task.doc_to_choice(doc)[target]
    return str(target[0] if isinstance(target, list) else target).strip()
