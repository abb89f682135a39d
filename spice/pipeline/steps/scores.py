"""What the tuned model scores on each benchmark."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from spice.distributed import per_rank
from spice.distributed.per_rank import PerRank
from spice.messages import say, warn
from spice.models.merging import merged, shared_targets
from spice.pipeline.steps.base import Step
from spice.progress import counted, progress
from spice.records import Score
from spice.storage.closure import code_version, library_versions
from spice.storage.files import read_json, write_json, write_jsonl
from spice.storage.stages import digest

if TYPE_CHECKING:
    from pathlib import Path

    from spice.models.checkpoint import Checkpoint
    from spice.pipeline.plan.planned import Planned
    from spice.pipeline.plan.planner import Planner
    from spice.pipeline.run import Run

CODE = ("spice.evaluation.evaluation", "spice.models.tokenized", "spice.models.merging")


class Evaluate(Step):
    """Sets ``scores``, and writes ``samples/``; each benchmark is kept for itself."""

    name = "scores"

    def execute(self, run: Run) -> None:
        """Score what was not scored before."""
        if not run.parts.suite.names:
            return
        with run.ledger.timed(self.name):
            keys = self.keys(run, run.adapter.key if run.adapter else None)
            missing = [name for name, key in keys.items() if not run.stages.has(self.name, key)]
            scored = self._evaluate(run, missing, keys)
            run.scores = [self._load(run, name, key) for name, key in keys.items()]
        told = {name: digest(key) for name, key in keys.items()}
        run.ledger.note(self.name, told, reused=not scored)
        done = f"{scored} scored" if scored else "reused"
        say(self.name, f"key {digest(told)}, {done}")

    def keys(self, run: Run, adapter: str | None) -> dict[str, dict[str, Any]]:
        """What decides each benchmark's score, with the adapter of a key or without."""
        shared = {
            "adapter": adapter,
            **run.as_model.view,
            "seed": run.config.seed,
            "code": code_version(*CODE),
            "versions": library_versions(*CODE),
        }
        suite = run.parts.suite
        return {name: {**shared, "benchmark": suite.fingerprint(name)} for name in suite.names}

    def _load(self, run: Run, name: str, key: dict[str, Any]) -> Score:
        found = run.stages.folder(self.name, key)
        (run.folder / "samples").mkdir(exist_ok=True)
        shutil.copy(found / "samples.jsonl", run.folder / "samples" / f"{name}.jsonl")
        return Score(benchmark=name, **read_json(found / "score.json"))

    def _evaluate(self, run: Run, names: list[str], keys: Mapping[str, dict[str, Any]]) -> int:
        """Score one benchmark after the other, unless another run has done it by then.

        Returns how many were scored.
        """
        model = PerRank(partial(tuned, run.as_model.checkpoint, self._adapter(run)))
        scored = 0
        try:
            for name in counted(names, self.name, "benchmarks", lambda name: 0):
                with progress(name):
                    score = partial(self._score, run, name, model)
                    scored += not run.stages.run(self.name, keys[name], score).reused
        finally:
            per_rank.release()
        return scored

    def _score(self, run: Run, name: str, model: PerRank[Any], folder: Path) -> None:
        from spice.evaluation.evaluation import evaluate  # keeps torch out of start-up

        def keep(score: Score, samples: list[dict[str, Any]]) -> None:
            record = {k: v for k, v in dataclasses.asdict(score).items() if k != "benchmark"}
            write_json(folder / "score.json", record)
            write_jsonl(folder / "samples.jsonl", samples)

        evaluate(
            model,
            run.as_model.renderer,
            run.parts.suite,
            [name],
            max_length=run.as_model.context,
            seed=run.config.seed,
            on_score=keep,
            cache=run.cache / "datasets",
            trainer=run.parts.machine.trainer_arguments(),
        )

    def _adapter(self, run: Run) -> Path | None:
        return None if run.adapter is None else run.adapter.folder / "adapter"

    def plan(self, run: Run, planner: Planner) -> Iterator[Planned]:
        """As the untuned model answers; a tuned one may stop sooner or later."""
        if not run.parts.suite.names:
            return
        keys = self.keys(run, planner.adapter)
        missing = [name for name, key in keys.items() if not run.stages.has(self.name, key)]
        key = digest({name: digest(keys[name]) for name in keys})
        yield planner.scores(key, missing)


def tuned(checkpoint: Checkpoint, adapter: Path | None) -> Any:
    """The model that answers: a checkpoint's, with an adapter where there is one."""
    model: Any = checkpoint.load()
    if adapter is None:
        return model
    from peft import PeftModel  # keeps torch out of start-up

    model = PeftModel.from_pretrained(model, str(adapter))
    if shared := [name.rpartition(".")[2] for name in shared_targets(model)]:
        told = "shares its weight with another layer: scored beside the model, not merged"
        warn(Evaluate.name, f"{shared[0]} {told}; merge the adapter elsewhere only once untied")
    if checkpoint.dtype != "float32":
        return model
    # The same function to rounding, in two thirds of the time; half precision would lose
    # digits of the adapter, and few bits are left as they are.
    return merged(model)
