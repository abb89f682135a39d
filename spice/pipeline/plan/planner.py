"""A job's stages, those that are there and those to come, with what each would take."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from spice.gradients.work import Work, training
from spice.messages import say
from spice.models.device import device
from spice.pipeline.plan.probe import (
    Memory,
    Speed,
    chosen,
    greedy_bytes,
    greedy_seconds,
    probe,
    weights_bytes,
    weights_seconds,
)
from spice.schedules.choosing import proxy_learns
from spice.storage import provenance
from spice.storage.closure import code_version
from spice.storage.coding import row_bytes
from spice.storage.stages import digest

if TYPE_CHECKING:
    from spice.pipeline.job import Job

LIBRARIES = ("torch", "transformers", "peft")
FLOAT = 4  # bytes of a stored number


@dataclass(frozen=True)
class Planned:
    """A stage: ``key`` tells it from others, ``there`` whether it is finished already.

    ``seconds``, ``memory`` and ``disk`` (bytes) are what it would take, None where that cannot be
    told; of a finished one ``disk`` is what it takes.
    """

    stage: str
    key: str
    there: bool
    seconds: float | None
    memory: int | None
    disk: int | None


@dataclass
class Planner:
    """The stages of a job whose pool is loaded; a probe's findings are kept like a stage."""

    job: Job

    def stages(self) -> list[Planned]:
        """In the order in which they would run."""
        job = self.job
        selected = job.stages.has("selection", job.selection_key())
        before = [*self._signals(selected), *(() if selected else self._greedy())]
        return [*before, self._selection(selected), *self._finetune(), *self._scores()]

    @cached_property
    def _ids(self) -> list[str] | None:
        """The chosen rows, where a selection is there or needs nothing to be read."""
        job = self.job
        if job.stages.has("selection", job.selection_key()):
            folder = job.stages.folder("selection", job.selection_key())
            return json.loads((folder / "selection.json").read_text())["ids"]
        if job.parts.selector.needs:
            return None
        chosen = job.choosing({}, job.folder).choose()
        return [job.pool.rows[row].id for row in chosen.indices]

    @property
    def _rows(self) -> list[str]:
        """What tells the chosen rows from others; before the choice is made, its key does."""
        return [digest(self.job.selection_key())] if self._ids is None else self._ids

    # -- selection -------------------------------------------------------------------------

    def _signals(self, selected: bool) -> Iterator[Planned]:
        """Those that are there, and those that a selection still to be made lacks."""
        signals = self.job.signals
        for name, key in signals.keys.items() if signals else ():
            assert signals is not None
            if self.job.stages.has(name, key):
                yield self._there(name, key)
            elif not selected:
                works = signals.work(name)
                disk = sum(self._bytes(name, work) for work in works)
                found = self._of(name, digest(key), works, disk)
                held = self._shard_bytes(works) if name == "gradients" else 0
                found = dataclasses.replace(found, memory=(found.memory or 0) + held)
                yield self._weighing(found) if name == "reliability" else found

    def _weighing(self, found: Planned) -> Planned:
        """With the cosines that weights are made of."""
        signals = self.job.signals
        assert signals is not None
        pairs, most = signals.pairs("reliability")
        d = self._coordinates()
        measured = self._probed(
            {"weights": [pairs, d], "code": code_version("spice.signals", "spice.pipeline.plan")},
            lambda: {"seconds": weights_seconds(pairs, d)},
        )
        memory = Memory("cpu").now() + weights_bytes(most, d)
        seconds = (found.seconds or 0.0) + measured["seconds"]
        return dataclasses.replace(found, seconds=seconds, memory=max(found.memory or 0, memory))

    def _shard_bytes(self, works: Sequence[Work]) -> int:
        """What is held on the CPU until a shard is whole; a GPU's memory does not see it."""
        if device(self.job.parts.machine.accelerator) != "cpu":
            return 0
        rows = self.job.parts.extraction.shard_rows
        return sum(FLOAT * min(rows, len(work.lengths)) * self._speed(work).size for work in works)

    def _bytes(self, name: str, work: Work) -> int:
        """What a signal's store takes."""
        signal: Any = self.job.parts.selector.needs[name]
        if signal is None:
            size = row_bytes(self.job.parts.extraction.dtype, self._speed(work).size)
            return len(work.lengths) * size
        if not hasattr(signal, "width"):
            return 0  # what is built of several passes is small
        config = work.reading.checkpoint.config()
        return FLOAT * len(work.lengths) * signal.width(SimpleNamespace(config=config))

    def _greedy(self) -> Iterator[Planned]:
        """One run for each λ, zero included, for all budgets of a sweep."""
        job, orders = self.job, self.job.orders()
        if orders is None:
            return
        selector: Any = job.parts.selector
        k = max(job.k, orders.longest)
        for penalty in sorted({0.0, float(selector.penalty)}):
            path = orders.path(penalty)
            yield self._run("greedy", path.stem, path.is_file(), k)

    def _run(self, stage: str, key: str, there: bool, k: int) -> Planned:
        if there:
            return Planned(stage, key, True, 0.0, None, None)
        n, d = len(self.job.pool.rows), self._coordinates()
        selector: Any = self.job.parts.selector
        form, way = selector.fisher, selector.way(n, d, k)
        asked = {"n": n, "d": d, "k": k, "form": form, "way": way}
        found = self._probed(
            {"greedy": asked, "code": code_version("spice.selectors", "spice.pipeline.plan")},
            lambda: {"seconds": greedy_seconds(n, d, k, form, way)},
        )
        memory = Memory("cpu").now() + greedy_bytes(n, d, k, way)
        return Planned(stage, key, False, found["seconds"], memory, 0)

    def _coordinates(self) -> int:
        signals = self.job.signals
        assert signals is not None
        return self._speed(signals.work("gradients")[0]).size

    def _selection(self, there: bool) -> Planned:
        """Beside the greedy: once more without outliers, for the health report."""
        job, key = self.job, digest(self.job.selection_key())
        if there:
            return Planned("selection", key, True, 0.0, None, self._size("selection", key))
        if job.orders() is not None:
            return self._run("selection", key, False, job.k)
        if proxy_learns(job.parts):
            return self._of("selection", key, list(self._learning()), 0)
        return Planned("selection", key, False, None if job.parts.selector.needs else 0.0, None, 0)

    def _learning(self) -> Iterator[Work]:
        """A proxy that learns: window by window, or round by round."""
        job = self.job
        assert job.reading is not None
        lengths = [len(e.ids) for e in job.reading.examples if e.supervised]
        share, size = job.k / max(len(lengths), 1), job.parts.extraction.batch_size
        if job.parts.schedule.windowed:
            yield Work("gradients", job.reading, lengths)
            share *= getattr(job.parts.schedule, "train_proxy", True)
        else:
            yield Work("forward", job.reading, lengths, 2 * share)
        yield Work("training", job.reading, lengths, share, size)

    # -- the target ------------------------------------------------------------------------

    def _finetune(self) -> Iterator[Planned]:
        job, recipe = self.job, self.job.parts.recipe
        if recipe is None or not self._rows:
            return
        key = job.tuning_key(self._rows, recipe)
        if job.stages.has("finetune", key):
            yield self._there("finetune", key)
            return
        work = training(job.as_model, recipe, job.k if self._ids is None else len(self._ids))
        yield self._of("finetune", digest(key), [work], FLOAT * self._speed(work).size)

    def _scores(self) -> Iterator[Planned]:
        """As the untuned model answers; a tuned one may stop sooner or later."""
        job = self.job
        if not job.parts.suite.names:
            return
        recipe = job.parts.recipe
        adapter = digest(job.tuning_key(self._rows, recipe)) if recipe and self._rows else None
        keys = {name: job.score_key(name, adapter) for name in job.parts.suite.names}
        missing = [name for name, key in keys.items() if not job.stages.has("scores", key)]
        key = digest({name: digest(keys[name]) for name in keys})
        if not missing:
            yield Planned("scores", key, True, 0.0, None, None)
            return
        found = self._probed(
            {
                "scores": {name: job.parts.suite.fingerprint(name) for name in missing},
                **job.as_model.view,
                "code": code_version(
                    "spice.pipeline.plan",
                    "spice.evaluation.evaluation",
                    "spice.evaluation.live_model",
                ),
            },
            lambda: self._ask(missing),
        )
        yield Planned("scores", key, False, found["seconds"], found["memory"], None)

    def _ask(self, names: Sequence[str]) -> dict[str, Any]:
        from spice.pipeline.plan.asking import ask

        job = self.job
        return ask(
            job.as_model,
            job.parts.suite,
            names,
            seed=job.config.seed,
            cache=job.stages.root / "datasets",
            accelerator=job.parts.machine.accelerator,
        )

    # -- what passes cost ------------------------------------------------------------------

    def _of(self, stage: str, key: str, works: Sequence[Work], disk: int) -> Planned:
        speeds = [self._speed(work) for work in works]
        budget = self.job.parts.extraction.budget
        pairs = list(zip(speeds, works, strict=True))
        seconds = sum(speed.time(work, budget) for speed, work in pairs)
        memory = max((speed.memory(work, budget) for speed, work in pairs), default=0)
        return Planned(stage, key, False, seconds, memory, disk)

    def _speed(self, work: Work) -> Speed:
        parts = self.job.parts
        batches = chosen(work, parts.extraction.budget)
        widths = [[len(work.reading.examples[row].ids) for row in rows] for rows in batches]
        asked = {
            "kind": work.kind,
            **work.reading.view,
            **parts.extraction.fingerprint(),
            "recompute_tokens": parts.extraction.recompute_tokens,
            "tuned": dataclasses.asdict(parts.lora),
            "precision": parts.machine.resolved_precision(),
            "accelerator": parts.machine.accelerator,
            "batches": widths,
            "code": code_version("spice.pipeline.plan", "spice.signals", "spice.data.batches"),
        }

        def measure() -> dict[str, Any]:
            say("probe", f"{work.kind} of {sum(map(len, batches))} rows")
            lora, precision = parts.lora, parts.machine.resolved_precision()
            return probe(work, parts.extraction, lora, precision, parts.machine.accelerator)

        return Speed(**self._probed(asked, measure))

    def _probed(self, asked: dict[str, Any], measure: Any) -> dict[str, Any]:
        versions = provenance.versions()
        key = {
            **asked,
            "machine": provenance.describe(),
            "versions": {package: versions[package] for package in LIBRARIES},
        }

        def build(partial: Path) -> None:
            (partial / "found.json").write_text(json.dumps(measure()))

        done = self.job.stages.run("probes", key, build)
        return json.loads((done.folder / "found.json").read_text())

    # -- what is there ---------------------------------------------------------------------

    def _there(self, stage: str, key: dict[str, Any]) -> Planned:
        return Planned(stage, digest(key), True, 0.0, None, self._size(stage, digest(key)))

    def _size(self, stage: str, key: str) -> int:
        folder = self.job.stages.root / stage / key
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
