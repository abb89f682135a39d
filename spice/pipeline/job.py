"""One run: its components, its stages with their keys, and what they have cost so far."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from spice.data.pool import Pool
from spice.errors import InputError
from spice.messages import say, warn
from spice.models.tokenized import Reading, read
from spice.records import Score, Selection
from spice.reporting.card import other_selections
from spice.reporting.health import health_line
from spice.reporting.lines import audit_line, diagnostics_line, sources_line
from spice.reporting.trust import trust_line
from spice.schedules.choosing import Choosing, proxy_learns
from spice.selectors.mix import Mix
from spice.storage import provenance
from spice.storage.closure import code_version
from spice.storage.files import write_json
from spice.storage.stages import Done, Stages, digest

if TYPE_CHECKING:
    import numpy as np

    from spice.models.checkpoint import Checkpoint
    from spice.pipeline.components import Components
    from spice.records import Row
    from spice.reporting.tracking import TrackedRun
    from spice.signals.keyed import SignalStages
    from spice.submodular.kept_runs import Orders
    from spice.training.recipe import Recipe

SCORING = (
    "spice.evaluation.benchmarks",
    "spice.evaluation.evaluation",
    "spice.evaluation.live_model",
    "spice.evaluation.code_execution.pass_at_k",
    "spice.evaluation.code_execution.runner",
)
CHOOSING = (
    "spice.records",
    "spice.selectors",
    "spice.schedules.choosing",
    "spice.submodular.kept_runs",
    "spice.reporting.diagnostics",
    "spice.reporting.health",
    "spice.reporting.trust",
)
CORE = (
    "spice.records",
    "spice.data.rendering",
    "spice.models.checkpoint",
    "spice.models.attention",
    "spice.data.batches",
)


def resolve_budget(budget: Any, n: int) -> int:
    """The number of picks: a float in (0, 1] is a share of the pool, a whole number a count."""
    if isinstance(budget, bool) or not isinstance(budget, int | float):
        raise InputError(f"budget={budget}: must be a share in (0, 1] or a count of at least 1")
    if isinstance(budget, float):
        if not 0 < budget <= 1:
            raise InputError(f"budget={budget}: a share of the pool must be in (0, 1]")
        return max(1, round(budget * n))
    if budget < 1:
        raise InputError(f"budget={budget}: must be a share in (0, 1] or a count of at least 1")
    if budget > n:
        raise InputError(f"budget={budget}: the pool has only {n} rows")
    return budget


@dataclass
class Job:
    """The stages in the order of the methods."""

    config: DictConfig
    folder: Path
    parts: Components
    stages: Stages
    memo: Path
    sweep: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)
    selection_report: dict[str, Any] = field(default_factory=dict)
    others_readings: dict[str, Reading] = field(default_factory=dict)

    # -- the pool and how it is read -------------------------------------------------------

    def load_pool(self) -> None:
        """Read the rows, and refuse a budget or weights that cannot work, before any model."""
        start = time.perf_counter()
        self.others = other_selections(self.config.card.compare)
        self.pool: Pool = self.parts.data.load()
        self.k = resolve_budget(self.config.budget, len(self.pool.rows))
        if isinstance(self.parts.selector, Mix):
            self.parts.selector.check_sources(row.source for row in self.pool.rows)
        for note in self.pool.notes:
            warn("pool", note)
        if self.pool.skipped:
            shown = "\n           ".join(self.pool.skipped[:10])
            warn("pool", f"{len(self.pool.skipped)} rows skipped, the first:\n           {shown}")
        say("pool", f"{len(self.pool.rows):,} rows, key {self.pool.digest()}")
        for checkpoint in (self.parts.proxy, self.parts.model):
            if checkpoint:
                checkpoint.digest(self.memo)
        self.seconds["pool"] = time.perf_counter() - start

    @cached_property
    def as_proxy(self) -> Reading:
        """The pool as the proxy reads it."""
        assert self.parts.proxy is not None
        return self._read("proxy", self.parts.proxy)

    @cached_property
    def as_model(self) -> Reading:
        """The pool as the target reads it."""
        assert self.parts.model is not None
        return self._read("model", self.parts.model)

    @property
    def reading(self) -> Reading | None:
        """The pool as selection sees it: the proxy's reading if one is used, else the target's."""
        if self.parts.proxy:
            return self.as_proxy
        return self.as_model if self.parts.model else None

    def _read(self, role: str, checkpoint: Checkpoint) -> Reading:
        start = time.perf_counter()
        found = read(checkpoint, self.parts.template, self.pool, self.memo)
        path = self.folder / "audit.json"
        known = json.loads(path.read_text()) if path.is_file() else {"skipped": self.pool.skipped}
        write_json(path, {**known, role: found.audit.as_dict()})
        say("audit", audit_line(role, found.audit))
        if found.audit.unsupervised_rows:
            left_out = (
                f"{found.audit.unsupervised_rows} rows leave the {role} nothing to learn from"
            )
            warn("audit", f"{left_out}: their prompts fill its tokens; listed in audit.json")
        self.seconds["pool"] += time.perf_counter() - start
        return found

    def _read_by(self, checkpoint: Checkpoint) -> Reading:
        """The pool as one more checkpoint reads it."""
        if checkpoint.path not in self.others_readings:
            name = Path(checkpoint.path).name
            self.others_readings[checkpoint.path] = self._read(name, checkpoint)
        return self.others_readings[checkpoint.path]

    # -- selection -------------------------------------------------------------------------

    def select(self) -> dict[str, Any]:
        """Choose the rows and write ``selection.json`` and ``selected.jsonl``."""
        done = self._run("selection", self.selection_key(), self._build_selection)
        if done.reused:
            for name, key in self.signals.keys.items() if self.signals else ():
                self.reused.insert(0, name)
                say(name, f"key {digest(key)}, reused with the selection")
        selection = json.loads((done.folder / "selection.json").read_text())
        self.selection_report = json.loads((done.folder / "report.json").read_text())
        # Where the pool lies and how a run is logged do not change a selection, so the stage is
        # shared between runs, and the configuration is each run's own.
        selection["config"] = OmegaConf.to_container(self.config, resolve=True)
        write_json(self.folder / "selection.json", selection)
        write_json(self.folder / "selection_report.json", self.selection_report)
        if (done.folder / "health.json").is_file():
            health = json.loads((done.folder / "health.json").read_text())
            write_json(self.folder / "health.json", health)
            say("health", health_line(health))
        trusted = None
        if (done.folder / "reliability.json").is_file():
            trusted = json.loads((done.folder / "reliability.json").read_text(encoding="utf-8"))
            write_json(self.folder / "reliability.json", trusted)
            say("reliability", trust_line(trusted))
        with (self.folder / "selected.jsonl").open("w") as file:
            for index in selection["indices"]:
                file.write(json.dumps(self.pool.rows[index].as_dict(), ensure_ascii=False) + "\n")
        if self.pool.truth is not None:
            from spice.sandbox.report import truth_report

            truth = truth_report(self.pool.rows, selection["ids"], self.pool.truth)
            write_json(self.folder / "truth.json", truth)
        self._tell(selection)
        self._write_card(selection, trusted)
        return selection

    def _write_card(self, selection: Mapping[str, Any], trusted: Mapping[str, Any] | None) -> None:
        import numpy as np

        from spice.reporting.card import write_card

        examples = self.reading.examples if self.reading else []
        lengths = np.array([e.supervised for e in examples] or [0] * len(self.pool.rows))
        write_card(
            self.folder, self.pool.rows, lengths, selection, self.selection_report,
            self.others, self.config.seed, trusted,
        )  # fmt: skip

    @cached_property
    def signals(self) -> SignalStages | None:
        """What the selector needs read off the proxy; windows read their own as they go."""
        if self.parts.proxy is None or self.parts.schedule.windowed:
            return None
        from spice.signals.keyed import SignalStages

        return SignalStages(
            needs=self.parts.selector.needs,
            rows=self.pool.rows,
            pool=self.pool.digest(),
            reading=self.as_proxy,
            extraction=self.parts.extraction,
            targets=lambda: self.targets,
            reading_of=self._read_by,
            trainer=self.parts.machine.trainer_arguments(),
            run=self._run,
            say=say,
        )

    @cached_property
    def targets(self) -> list[Row]:
        """The validation examples that the selector aims at."""
        assert self.parts.validation is not None
        rows = self.parts.validation.rows(self.parts.suite, self.stages.root / "datasets")
        say("validation", f"{len(rows):,} examples of {len({row.source for row in rows})} subtasks")
        return rows

    def selection_key(self) -> dict[str, Any]:
        """What decides the choice."""
        keys = self.signals.keys if self.signals else {}
        return {
            "data": self.pool.digest(),
            "view": self.reading.view if self.reading else None,
            "signals": {name: digest(key) for name, key in keys.items()},
            "selector": self._selector_key(),
            "k": self.k,
            "seed": self.config.seed,
            "schedule": self._learning_key() if proxy_learns(self.parts) else None,
            "code": code_version(*CHOOSING),
            "versions": _versions("numpy"),
        }

    def _learning_key(self) -> dict[str, Any]:
        options: Any = OmegaConf.to_container(self.config.schedule, resolve=True)
        learning = (
            "spice.schedules.learning_proxy",
            "spice.schedules.window_by_window",
            "spice.schedules.windows",
            "spice.schedules.rounds",
        )
        return {
            **options,
            **self.parts.extraction.fingerprint(),
            "batch_size": self.parts.extraction.batch_size,  # of the training in between
            "code": code_version(*CORE, "spice.signals", *learning),
            "versions": _versions("torch", "transformers", "peft", "pytorch-lightning"),
        }

    def _selector_key(self) -> dict[str, Any]:
        """The selector's options; files that it reads count by their content."""
        options: Any = OmegaConf.to_container(self.config.selector, resolve=True)
        fingerprint = getattr(self.parts.selector, "fingerprint", dict)
        return {**options, **fingerprint()}

    def _build_selection(self, partial: Path) -> None:
        from spice.reporting import diagnostics

        choosing = self.choosing(self.signals.read() if self.signals else {}, partial / "learning")
        selection = choosing.choose()
        facts = diagnostics.report(
            selection, choosing.signals, getattr(self.parts.selector, "penalty", None)
        )
        write_json(partial / "selection.json", self._selection_record(selection))
        if trusted := choosing.trust(selection):
            write_json(partial / "reliability.json", trusted)
            facts["reliability"] = {k: v for k, v in trusted.items() if k != "least_trusted"}
        write_json(partial / "report.json", facts)
        if health := choosing.health(selection):
            write_json(partial / "health.json", {**health, **self._moved()})
        shutil.rmtree(partial / "learning", ignore_errors=True)

    def choosing(self, read: Mapping[str, np.ndarray], folder: Path) -> Choosing:
        """The choice to be made from the signals that were read."""
        return Choosing(
            parts=self.parts,
            rows=self.pool.rows,
            reading=self.reading,
            read=read,
            k=self.k,
            seed=self.config.seed,
            folder=folder,
            orders=self.orders(),
        )

    def _moved(self) -> dict[str, Any]:
        """By how much projection and rounding moved the gradients' inner products, if they did."""
        assert self.signals is not None
        store = self.stages.folder("gradients", self.signals.keys["gradients"])
        told = {what: store / f"{what}.json" for what in ("projection", "rounding")}
        return {
            what: json.loads(file.read_text()) if file.is_file() else None
            for what, file in told.items()
        }

    def orders(self) -> Orders | None:
        """Greedy runs over the whole pool: for all budgets, for all ω; None without a greedy."""
        if not hasattr(self.parts.selector, "select_gradients") or proxy_learns(self.parts):
            return None
        from spice.submodular.kept_runs import Orders, swept_budgets

        apart = ("k", "seed", "schedule", "selector")
        key = {name: value for name, value in self.selection_key().items() if name not in apart}
        cuts = ("penalty", "stop_ratio", "stop_inclusive", "maximizer", "stratify", "quotas")
        options = {name: v for name, v in self._selector_key().items() if name not in cuts}
        budgets = swept_budgets(Path(self.sweep)) if self.sweep else []
        longest = max((resolve_budget(b, len(self.pool.rows)) for b in budgets), default=0)
        return Orders(self.stages.root / "orders", {**key, "objective": options}, longest)

    def _selection_record(self, selection: Selection) -> dict[str, Any]:
        return {
            "n": selection.n,
            "k": selection.k,
            "indices": selection.indices,
            "ids": [self.pool.rows[i].id for i in selection.indices],
            "scores": selection.scores,
            "gains": selection.gains,
            "conflicts": selection.conflicts,
            "bases": selection.bases,
            "epsilons": selection.epsilons,
            "information": selection.information,
            "alpha": selection.alpha,
            "certificate": selection.certificate,
            "without_penalty": selection.without_penalty,
            "weights": selection.weights,
            "without_weights": selection.without_weights,
            "excluded": {
                why: [self.pool.rows[i].id for i in rows]
                for why, rows in selection.excluded.items()
            },
            "selector": self.config.names.selector,
        }

    def _tell(self, selection: Mapping[str, Any]) -> None:
        facts, k = self.selection_report, selection["k"]
        if k == 0:
            say("selection", "nothing chosen: the model stays untuned")
            return
        information = selection["information"]
        gained = f", F(S) = {information:.3f} nats" if information is not None else ""
        say("selection", f"{k:,} of {selection['n']:,} rows{gained}")
        if information is not None:
            say("selection", diagnostics_line(facts))
        say("selection", f"sources: {sources_line(facts)}")
        if k < self.k:
            facts["warnings"].append(f"{self.k} rows were asked for, {k} chosen")
        for warning in facts["warnings"]:
            warn("selection", warning)

    # -- fine-tuning -----------------------------------------------------------------------

    def tuning_key(self, ids: Sequence[str], recipe: Recipe) -> dict[str, Any]:
        """What decides the adapter tuned on the rows with these ids."""
        return {
            **self.as_model.view,
            "rows": digest(sorted(ids)),
            "lora": dataclasses.asdict(self.parts.lora),
            "recipe": dataclasses.asdict(recipe),
            "precision": self.parts.machine.resolved_precision(),
            "seed": self.config.seed,
            "code": code_version(*CORE, "spice.training.finetune", "spice.training.recipe"),
            "versions": _versions("torch", "transformers", "peft", "pytorch-lightning"),
        }

    def tune(self, selection: Mapping[str, Any], tracked: TrackedRun) -> Done | None:
        """Fine-tune the target on the selection, if any; the adapter lands in ``adapter/``."""
        recipe = self.parts.recipe
        if recipe is None or not selection["indices"]:
            return None
        # By id, not by pick: the same set of rows is tuned on alike, whatever order chose it.
        by_id = sorted(selection["indices"], key=lambda row: self.pool.rows[row].id)
        rows = [row for row in by_id if self.as_model.examples[row].supervised]
        if not rows:
            raise InputError(
                "none of the chosen rows fits the model's context; nothing to train on"
            )
        if len(rows) < selection["k"]:
            lost = selection["k"] - len(rows)
            warn("finetune", f"{lost} chosen rows do not fit the model's context: left out")

        def build(partial: Path) -> None:
            from spice.training.finetune import finetune

            model = self.parts.lora.attach(self.as_model.checkpoint.load(), self.config.seed)
            trainer = {
                **self.parts.machine.trainer_arguments(),
                "precision": self.parts.machine.resolved_precision(),
                "logger": tracked.lightning_loggers(),
            }
            facts = finetune(
                model,
                recipe,
                self.as_model.examples,
                rows,
                folder=partial,
                pad_id=self.as_model.pad_id,
                seed=self.config.seed,
                trainer=trainer,
            )
            write_json(partial / "facts.json", facts)

        done = self._run("finetune", self.tuning_key(selection["ids"], recipe), build)
        shutil.copytree(done.folder / "adapter", self.folder / "adapter", dirs_exist_ok=True)
        return done

    # -- scores ----------------------------------------------------------------------------

    def score(self, adapter: Done | None, tracked: TrackedRun) -> list[Score]:
        """Score the tuned model on each benchmark, those scored before excepted."""
        if not self.parts.suite.names:
            return []
        start = time.perf_counter()
        tuned = adapter.key if adapter else None
        keys = {name: self.score_key(name, tuned) for name in self.parts.suite.names}
        missing = [name for name, key in keys.items() if not self.stages.has("scores", key)]
        if missing:
            self._evaluate(missing, adapter, keys)
        else:
            self.reused.append("scores")
        scores = []
        for name, key in keys.items():
            found = self.stages.folder("scores", key)
            scores.append(Score(benchmark=name, **json.loads((found / "score.json").read_text())))
            (self.folder / "samples").mkdir(exist_ok=True)
            shutil.copy(found / "samples.jsonl", self.folder / "samples" / f"{name}.jsonl")
        self.seconds["scores"] = time.perf_counter() - start
        joint = digest([digest(key) for key in keys.values()])
        say("scores", f"key {joint}, " + ("reused" if not missing else f"{len(missing)} scored"))
        return scores

    def score_key(self, name: str, adapter: str | None) -> dict[str, Any]:
        """What decides a benchmark's score, of the target with the adapter of a key or without."""
        return {
            "adapter": adapter,
            **self.as_model.view,
            "benchmark": self.parts.suite.fingerprint(name),
            "seed": self.config.seed,
            "code": code_version(*CORE, *SCORING),
            "versions": _versions("torch", "transformers", "peft", "lm-eval"),
        }

    def _evaluate(
        self, names: list[str], adapter: Done | None, keys: Mapping[str, dict[str, Any]]
    ) -> None:
        from spice.evaluation.evaluation import evaluate

        def publish(score: Score, samples: list[dict[str, Any]]) -> None:
            def build(partial: Path) -> None:
                record = {k: v for k, v in dataclasses.asdict(score).items() if k != "benchmark"}
                write_json(partial / "score.json", record)
                with (partial / "samples.jsonl").open("w") as file:
                    file.writelines(json.dumps(s, ensure_ascii=False) + "\n" for s in samples)

            self.stages.run("scores", keys[score.benchmark], build)

        model: Any = self.as_model.checkpoint.load()
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter.folder / "adapter"))
            if self.as_model.checkpoint.dtype == "float32":
                # The same function to rounding, in two thirds of the time; half precision would
                # lose digits of the adapter.
                model = model.merge_and_unload()
        evaluate(
            model,
            self.as_model.renderer,
            self.parts.suite,
            names,
            max_length=self.as_model.checkpoint.context(),
            seed=self.config.seed,
            on_score=publish,
            cache=self.stages.root / "datasets",
            trainer=self.parts.machine.trainer_arguments(),
        )

    # -- all stages ---------------------------------------------------------------------------

    def _run(self, stage: str, key: dict[str, Any], build: Callable[[Path], None]) -> Done:
        done = self.stages.run(stage, key, build)
        # A stage that had another built on its way is not charged for that one.
        signals = self.parts.selector.needs if stage == "selection" else ()
        inner = sum(self.seconds.get(name, 0.0) for name in signals)
        self.seconds[stage] = done.seconds - inner
        if done.reused:
            self.reused.append(stage)
        took = "reused" if done.reused else f"{self.seconds[stage]:.1f} s"
        say(stage, f"key {done.key}, {took}")
        return done


def _versions(*packages: str) -> dict[str, str]:
    known = provenance.versions()
    return {package: known[package] for package in packages}
