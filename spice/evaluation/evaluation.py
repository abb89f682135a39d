"""Score a live model: Lightning's test loop over the benchmarks of a suite, one per step."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from spice.distributed.lightning import by_itself
from spice.distributed.per_rank import PerRank
from spice.errors import InputError
from spice.evaluation import live_model, surroundings
from spice.evaluation.asked import asked_of
from spice.evaluation.benchmarks import Benchmark, Suite
from spice.evaluation.code_execution.pass_at_k import missing_walls
from spice.records import Score

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from spice.data.rendering import Renderer
    from spice.evaluation.live_model import LiveModel

log = logging.getLogger(__name__)

Samples = list[dict[str, Any]]


class Evaluation(pl.LightningModule):
    """Scores a model that each process has in memory; ``trainer.test(evaluation)`` runs it.

    ``on_score`` receives each benchmark's :class:`Score` and its samples as soon as it is done, so
    that what was scored can be kept. ``names`` are the benchmarks to score, all of the suite's by
    default. ``max_length`` is the model's context in tokens. ``seed`` decides which examples are
    shown as shots. Prepared datasets are kept under ``cache``.

    The model's modes, the global random numbers, the environment and the libraries' settings are
    as before after every step. Scores do not depend on the batch size but for rounding.
    """

    def __init__(
        self,
        model: PerRank[PreTrainedModel],
        tokenizer: PreTrainedTokenizerBase,
        renderer: Renderer,
        suite: Suite,
        *,
        max_length: int,
        seed: int,
        on_score: Callable[[Score, Samples], None],
        names: Sequence[str] | None = None,
        cache: Path | None = None,
    ) -> None:
        super().__init__()
        self.made = model
        self.tokenizer = tokenizer
        self.renderer = renderer
        self.suite = suite
        self.max_length = max_length
        self.seed = seed
        self.on_score = on_score
        self.names = list(suite.names if names is None else names)
        self.cache = cache

    def test_dataloader(self) -> DataLoader:
        """The benchmarks' names."""
        # A loader without a generator draws from the global one.
        own = torch.Generator()
        return DataLoader(self.names, batch_size=None, generator=own)  # type: ignore[arg-type]

    def test_step(self, name: str, index: int) -> None:
        """Score one benchmark and hand the result over."""
        score, samples = self.score(name)
        self.on_score(score, samples)
        if score.value is not None:
            self.log(f"score/{name}", score.value, batch_size=1)

    def score(self, name: str) -> tuple[Score, Samples]:
        """One benchmark's score, and what was asked and answered for every item.

        A benchmark that must not run here comes back as skipped, without having been touched. The
        value of a group (MMLU, BBH) is lm-eval's: the mean over all its items, so that each
        subtask weighs as many items as it has; it stands beside the subtasks' own.
        """
        benchmark = self.suite.tasks[name]
        if reason := self.suite.skip_reason(name):
            return _skipped(benchmark, reason), []
        with self._surroundings(benchmark):
            return self._run(benchmark)

    def items(self, name: str) -> list[int]:
        """How many items each subtask of a benchmark has, up to the suite's limit."""
        benchmark, limit = self.suite.tasks[name], self.suite.limit_of(name)
        with self._surroundings(benchmark):
            tasks = self._load(benchmark)["tasks"]
            _leave_out(tasks, self.suite.left_out(name))
            sizes = [len(task.eval_docs) for task in tasks.values()]
        return sizes if limit is None else [min(limit, size) for size in sizes]

    @contextlib.contextmanager
    def _surroundings(self, benchmark: Benchmark) -> Iterator[None]:
        """Data, random numbers and libraries as a score needs them, and as before after it."""
        mirror = self.suite.mirror_path
        with contextlib.ExitStack() as stack:
            stack.enter_context(surroundings.quiet())
            stack.enter_context(surroundings.seeded(self.seed))
            stack.enter_context(surroundings.mirrored(mirror, self.cache))
            stack.enter_context(surroundings.sandboxed_code())
            if benchmark.punkt:
                stack.enter_context(surroundings.instruction_checkers(mirror, self.seed))
            yield

    def _run(self, benchmark: Benchmark) -> tuple[Score, Samples]:
        from lm_eval.evaluator import evaluate

        loaded = self._load(benchmark)
        excluded = _leave_out(loaded["tasks"], self.suite.left_out(benchmark.name))
        live = self._live_model(benchmark)
        results = evaluate(
            lm=live,
            task_dict=loaded,
            limit=self.suite.limit_of(benchmark.name),
            apply_chat_template=self.suite.chat,
            fewshot_as_multiturn=self.suite.chat,
            confirm_run_unsafe_code=benchmark.runs_code,
        )
        assert results is not None  # None is for other processes than the first
        score = _score(benchmark, results, cut=len(live.cut), excluded=excluded)
        if benchmark.runs_code:
            score = replace(score, unguarded=missing_walls() or None)
        _warn(score, self.max_length)
        return score, _samples(benchmark, results["samples"], live.cut)

    def _load(self, benchmark: Benchmark) -> dict[str, Any]:
        """The benchmark's tasks, with our shots and seed."""
        with contextlib.redirect_stdout(io.StringIO()):
            loaded = surroundings.task_manager(benchmark.folder).load([benchmark.task])
        for task in loaded["tasks"].values():
            task.set_config("num_fewshot", benchmark.shots)
            task.set_fewshot_seed(self.seed)
            if benchmark.split is not None:
                task.set_config("test_split", benchmark.split)
            _check(benchmark, task)
        return dict(loaded)

    def _live_model(self, benchmark: Benchmark) -> LiveModel:
        size, end = self.suite.batch_size, self.renderer.end_id
        return live_model.LiveModel(
            PerRank(partial(asked_of, self.made, self.tokenizer, end, size, self.seed)),
            self.tokenizer,
            self.renderer,
            max_length=self.max_length,
            batch_size=size,
            chat=self.suite.chat,
            max_new_tokens=self.suite.max_new_tokens,
            label=benchmark.name,
        )


def evaluate(
    model: PerRank[PreTrainedModel],
    renderer: Renderer,
    suite: Suite,
    names: Sequence[str],
    *,
    max_length: int,
    seed: int,
    on_score: Callable[[Score, Samples], None],
    cache: Path,
    trainer: dict[str, Any],
) -> None:
    """Score a model on the named benchmarks; ``trainer`` holds arguments of Lightning's Trainer.

    The run alone asks, aggregates and runs generated code; the answers come from all processes.
    """
    evaluation = Evaluation(
        model,
        renderer.tokenizer,
        renderer,
        suite,
        max_length=max_length,
        seed=seed,
        on_score=on_score,
        names=names,
        cache=cache,
    )
    testing = pl.Trainer(
        **by_itself(trainer),
        default_root_dir=cache,
        logger=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    testing.test(evaluation, verbose=False)


def _skipped(benchmark: Benchmark, reason: str) -> Score:
    return Score(
        benchmark=benchmark.name,
        value=None,
        stderr=None,
        metric=benchmark.metric,
        shots=benchmark.shots,
        n=0,
        skipped=reason,
    )


def _check(benchmark: Benchmark, task: Any) -> None:
    """Refuse what the task does not report or must not do, before the model has answered."""
    key = f"benchmarks.tasks.{benchmark.name}"
    if getattr(task, "UNSAFE_CODE", False) and not benchmark.runs_code:
        raise InputError(f"{key}: {task.task_name} runs generated code; say so by runs_code: true")
    metric, _, name = benchmark.metric.partition(",")
    if benchmark.split is not None and benchmark.split not in task.dataset:
        known = ", ".join(task.dataset)
        raise InputError(f"{key}.split={benchmark.split}: {task.task_name} has {known}")
    filters = [f.name for f in task._filters]
    metrics = list(task.aggregation())
    # A metric that is a function (pass_at_k) names its values only once it is called (pass@1).
    if name not in filters or (metric not in metrics and not benchmark.runs_code):
        known = ", ".join(f"{m},{f}" for m in metrics for f in filters)
        raise InputError(f"{key}.metric={benchmark.metric}: {benchmark.task} reports {known}")


def _leave_out(tasks: Mapping[str, Any], instructions: frozenset[str]) -> int:
    """Drop the items with instructions that cannot be checked; how many those were."""
    excluded = 0
    for task in tasks.values() if instructions else ():
        split = task.config.test_split
        docs = task.dataset[split]
        asked = enumerate(docs["instruction_id_list"])
        kept = [i for i, ids in asked if instructions.isdisjoint(ids)]
        excluded += len(docs) - len(kept)
        task.dataset[split] = docs.select(kept)
    return excluded


def _score(benchmark: Benchmark, results: Mapping[str, Any], cut: int, excluded: int) -> Score:
    parts = {name: _part(benchmark, results, name) for name in results["n-samples"]}
    top = results["results"][benchmark.task]
    return Score(
        benchmark=benchmark.name,
        value=_number(top[benchmark.metric]),
        stderr=_number(top.get(_stderr_key(benchmark.metric))),
        metric=benchmark.metric,
        shots=benchmark.shots,
        n=sum(part["n"] for part in parts.values()),
        version=str(results["versions"][benchmark.task]),
        cut=cut,
        excluded=excluded,
        subtasks={} if benchmark.task in parts else parts,
    )


def _part(benchmark: Benchmark, results: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = results["results"][name]
    return {
        "value": _number(part[benchmark.metric]),
        "stderr": _number(part.get(_stderr_key(benchmark.metric))),
        "n": results["n-samples"][name]["effective"],
        "metric": benchmark.metric,
        "version": str(results["versions"][name]),
    }


def _stderr_key(metric: str) -> str:
    name, _, by = metric.partition(",")
    return f"{name}_stderr,{by}"


def _number(value: Any) -> float | None:
    """lm-eval writes "N/A" where it has no standard error (a single item)."""
    return None if value is None or isinstance(value, str) else float(value)


def _warn(score: Score, max_length: int) -> None:
    if score.cut:
        log.warning(
            "%s: %d of %d items did not fit the context of %d tokens and were scored on what fits",
            score.benchmark,
            score.cut,
            score.n,
            max_length,
        )
    if score.unguarded:
        log.warning("%s: %s", score.benchmark, score.unguarded)
    if score.excluded:
        log.warning(
            "%s: %d items are left out: checking them needs nltk's punkt_tab, which is neither "
            "on this machine nor in the mirror's nltk_data",
            score.benchmark,
            score.excluded,
        )


def _samples(
    benchmark: Benchmark, logged: Mapping[str, Samples], cut: set[tuple[str | None, int | None]]
) -> Samples:
    metric, _, chosen = benchmark.metric.partition(",")
    return [
        _sample(task, entry, metric, (task, entry["doc_id"]) in cut)
        for task, entries in logged.items()
        for entry in entries
        if entry["filter"] == chosen
    ]


def _sample(task: str, entry: Mapping[str, Any], metric: str, cut: bool) -> dict[str, Any]:
    """One item: generated ``answers``, or the choices with their log-probabilities."""
    arguments = entry["arguments"]
    scored = isinstance(arguments[0][1], str)  # (context, continuation), else (context, settings)
    record = {
        "task": task,
        "id": entry["doc_id"],
        "prompt": arguments[0][0],
        "choices": [a[1] for a in arguments] if scored else None,
        "answers": [r[0] for r in entry["resps"]],
        "filtered": entry["filtered_resps"],
        "target": entry["target"],
        "metric": metric,
        "value": entry[metric],
        "cut": cut,
    }
    return json.loads(json.dumps(record, default=_plain))


def _plain(value: Any) -> Any:
    """numpy's numbers as Python's; whatever else a task returns as text."""
    return value.item() if hasattr(value, "item") else str(value)
