"""What work takes here, measured by a probe; the steps of a run say what work they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from spice.messages import say
from spice.models.device import device
from spice.models.memory import free
from spice.pipeline.plan.arithmetic import (
    GreedyRun,
    greedy_seconds,
    weights_bytes,
    weights_seconds,
)
from spice.pipeline.plan.asking import ask
from spice.pipeline.plan.planned import Planned
from spice.pipeline.plan.probe import Memory, Speed, chosen, probe
from spice.pipeline.plan.shape import Shapes
from spice.selectors.base import GradientSelector
from spice.signals.gradients import Gradients
from spice.signals.keyed import GRADIENTS
from spice.storage import provenance
from spice.storage.closure import code_version, library_versions
from spice.storage.files import read_json, write_json
from spice.storage.shards import shard_size
from spice.storage.stages import digest
from spice.submodular.partitions import rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from spice.gradients.work import Work
    from spice.pipeline.run import Run
    from spice.submodular.kept_runs import KeptRuns

PASSES = ("spice.pipeline.plan.probe",)
ARITHMETIC = ("spice.pipeline.plan.arithmetic",)
ASKING = ("spice.pipeline.plan.asking",)
FLOAT = 4  # bytes of a stored number
ASKED = 500  # tokens of a benchmark's item and its answer, about, where none is asked


@dataclass
class Planner:
    """The prices of a run's work; a probe's findings are kept like a stage.

    ``chosen`` are the ids that a selection has or would have, None until it is known, ``adapter``
    the key of the adapter that scores would be of.
    """

    run: Run
    chosen: list[str] | None = None
    adapter: str | None = None
    undecided: str = ""

    @property
    def ids(self) -> list[str]:
        """What tells the chosen rows from others; before the choice is made, its key does."""
        return [self.undecided] if self.chosen is None else self.chosen

    @cached_property
    def shapes(self) -> Shapes:
        """What is known of models without a look at their weights."""
        return Shapes((machine := self.run.parts.machine).accelerator, machine.parts)

    def there(self, stage: str, key: dict[str, Any]) -> Planned:
        """A stage that is finished."""
        folder = self.run.stages.folder(stage, key)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Planned(stage, digest(key), True, 0.0, None, size)

    def of(self, stage: str, key: str, works: Sequence[Work], disk: int) -> Planned:
        """A stage that makes models go over texts."""
        where = device(self.run.parts.machine.accelerator)
        given, room = self.run.parts.extraction.batch_limit, free(where)
        priced = [(speed := self._speed(work), work, speed.limit(work, given, room, where))
                  for work in works]  # fmt: skip
        memory = max((speed.memory(work, limit) - self.shapes.spared(work.tokenized.checkpoint)
                      for speed, work, limit in priced), default=0)  # fmt: skip
        tried = not any(self.shapes.alone(work, given) for work in works)
        seconds = sum(speed.time(work, limit) for speed, work, limit in priced) if tried else None
        operations = sum(self.shapes.work(work, limit) for _, work, limit in priced)
        return Planned(stage, key, False, seconds, memory, disk, operations)

    # -- signals ---------------------------------------------------------------------------

    def signal(self, name: str, key: dict[str, Any]) -> Planned:
        """A signal still to be read, with the cosines that it is made of, if it is."""
        assert self.run.keyed is not None
        signal, source = self.run.keyed.needs[name], self.run.keyed.source(name)
        works = signal.work(source)
        sizes = [(work, signal.size(source, self._coordinates(work))) for work in works[:1]]
        found = self.of(name, digest(key), works, sum(len(w.lengths) * s for w, s in sizes))
        if isinstance(signal, Gradients):
            held = sum(self._shard_bytes(work) for work in works)
            found = dataclasses.replace(found, memory=(found.memory or 0) + held)
        pairs, most = signal.pairs(source)
        return self._with_cosines(found, pairs, most) if pairs else found

    def _with_cosines(self, found: Planned, pairs: int, most: int) -> Planned:
        d = self._gradient_coordinates()
        measured = self._arithmetic(
            {"weights": [pairs, d]}, lambda: {"seconds": weights_seconds(pairs, d)}
        )
        memory = Memory("cpu").now() + weights_bytes(most, d)
        seconds = (found.seconds or 0.0) + measured["seconds"]
        return dataclasses.replace(found, seconds=seconds, memory=max(found.memory or 0, memory))

    def _shard_bytes(self, work: Work) -> int:
        """What is held on the CPU until a shard is whole; a GPU's memory does not see it."""
        if device(self.run.parts.machine.accelerator) != "cpu":
            return 0
        width = self._coordinates(work)
        rows = min(self.run.parts.extraction.shard_rows, len(work.lengths))
        return FLOAT * shard_size(rows, width) * width

    def _coordinates(self, work: Work) -> int:
        return self._speed(work).size if work.kind == "gradients" else 0

    def _gradient_coordinates(self) -> int:
        assert self.run.keyed is not None
        [work] = Gradients().work(self.run.keyed.source(GRADIENTS))
        return self._coordinates(work)

    # -- selection -------------------------------------------------------------------------

    def greedy(self, kept: KeptRuns) -> Iterator[Planned]:
        """One run for each λ, zero included, for all budgets of a sweep."""
        selector = self.run.parts.selector
        assert isinstance(selector, GradientSelector)
        k, count = self.run.k, selector.parts(len(self.run.pool.rows), self.run.k)
        if count == 1:
            k = max(k, kept.longest)
        else:
            kept = kept.of_parts(count, k, **selector.stopping)
        for penalty in sorted({0.0, float(selector.penalty)}):
            path = kept.path(penalty)
            if path.is_file():
                yield Planned("greedy", path.stem, True, 0.0, None, None)
            else:
                yield self._greedy("greedy", path.stem, k)

    def greedy_again(self, key: str) -> Planned:
        """Beside the kept runs: once more without outliers, for the health report."""
        return self._greedy("selection", key, self.run.k)

    def _greedy(self, stage: str, key: str, k: int) -> Planned:
        selector = self.run.parts.selector
        assert isinstance(selector, GradientSelector)
        n, d = len(self.run.pool.rows), self._gradient_coordinates()
        part, union = rows_of(n, k, count := selector.parts(n, k))
        rounds = [(part, count), (union, 1)] if count > 1 else [(n, 1)]
        runs = [
            (GreedyRun(m, d, min(k, m), *selector.form_and_way(m, d, min(k, m))), times)
            for m, times in rounds
        ]
        seconds = sum(self._greedy_seconds(run) * times for run, times in runs)
        operations = sum(run.operations * times for run, times in runs)
        memory = Memory("cpu").now() + max(run.bytes for run, _ in runs)
        return Planned(stage, key, False, seconds, memory, 0, operations)

    def _greedy_seconds(self, run: GreedyRun) -> float:
        asked = {"greedy": run._asdict()}
        found = self._arithmetic(asked, lambda: {"seconds": greedy_seconds(run)})
        return float(found["seconds"])

    # -- the target ------------------------------------------------------------------------

    def adapter_bytes(self, training: Work) -> int:
        """What a tuned adapter takes on disk."""
        return FLOAT * self._speed(training).size

    def scores(self, key: str, missing: Sequence[str]) -> Planned:
        """The named benchmarks, as the model without an adapter answers a batch of each."""
        if not missing:
            return Planned("scores", key, True, 0.0, None, None)
        run, model = self.run, self.run.as_model.checkpoint
        tokens = ASKED * run.parts.suite.batch_size * len(missing)
        if self.shapes.untried(model, "forward", tokens):
            return Planned("scores", key, False, None, self.shapes.held(model), None)
        asked = {
            "scores": {name: run.parts.suite.fingerprint(name) for name in missing},
            **run.as_model.view,
        }
        found = self._probed(asked, ASKING, lambda: self._ask(missing))
        held = found["memory"] - self.shapes.spared(model)
        return Planned("scores", key, False, found["seconds"], held, None)

    def _ask(self, names: Sequence[str]) -> dict[str, Any]:
        return ask(
            (run := self.run).as_model,
            run.parts.suite,
            names,
            seed=run.config.seed,
            cache=run.cache / "datasets",
            accelerator=run.parts.machine.accelerator,
        )

    # -- probes ----------------------------------------------------------------------------

    def _speed(self, work: Work) -> Speed:
        parts = self.run.parts
        if self.shapes.alone(work, parts.extraction.batch_limit):
            return self.shapes.speed(work, parts.extraction, parts.lora)
        batches = chosen(work, parts.extraction.batch_limit)
        asked = {
            "kind": work.kind,
            **work.tokenized.view,
            **parts.extraction.fingerprint(),
            "tuned": dataclasses.asdict(parts.lora),
            "precision": parts.machine.resolved_precision(),
            "accelerator": parts.machine.accelerator,
            "batches": [[len(work.tokenized.examples[row].ids) for row in of] for of in batches],
        }

        def measure() -> dict[str, Any]:
            say("probe", f"{work.kind} of {sum(map(len, batches))} rows")
            lora, precision = parts.lora, parts.machine.resolved_precision()
            return probe(work, parts.extraction, lora, precision, parts.machine.accelerator)

        return Speed.read(self._probed(asked, PASSES, measure))

    def _arithmetic(
        self, asked: dict[str, Any], measure: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        return self._probed(asked, ARITHMETIC, measure)

    def _probed(
        self, asked: dict[str, Any], code: Sequence[str], measure: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        key = {
            **asked,
            "machine": provenance.describe(),
            "code": code_version(*code),
            "versions": library_versions(*code),
        }

        def build(folder: Path) -> None:
            write_json(folder / "found.json", measure())

        return read_json(self.run.stages.run("probes", key, build).folder / "found.json")
