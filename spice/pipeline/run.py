"""One run, from a configuration to its results: :data:`STEPS`, read from top to bottom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from spice.messages import say
from spice.pipeline import run_folder
from spice.pipeline.checks import checks
from spice.pipeline.draft import Draft
from spice.pipeline.ledger import Ledger
from spice.pipeline.plan import report
from spice.pipeline.plan.planner import Planner
from spice.pipeline.readings import Readings
from spice.pipeline.shown import display_of
from spice.pipeline.steps.export import hand_on
from spice.pipeline.steps.finetune import FineTune
from spice.pipeline.steps.pool import ReadPool
from spice.pipeline.steps.results import Record, tell_so_far
from spice.pipeline.steps.scores import Evaluate
from spice.pipeline.steps.selection import Select
from spice.pipeline.steps.signals import ReadSignals
from spice.pipeline.steps.tokens import ReadTokens
from spice.progress import progress
from spice.reporting.telling import telling
from spice.signals.keyed import KeyedSignals
from spice.storage.files import write_json
from spice.storage.seals import publish_sealed, read_sealed

if TYPE_CHECKING:
    from spice.data.pool import Pool
    from spice.models.tokenized import Tokenized
    from spice.pipeline.components import Components
    from spice.pipeline.steps.base import Step
    from spice.records import Diagnostics, ResultsRecord, Row, Score, SelectionRecord
    from spice.reporting.tracking import TrackedRun
    from spice.storage.stages import Done, Stages

STEPS: tuple[Step, ...] = (
    ReadPool(),
    ReadTokens(),
    ReadSignals(),
    Select(),
    FineTune(),
    Evaluate(),
    Record(),
)


@dataclass
class Run:
    """What a run is made of, and what its steps have made so far, each under its own name.

    A step reads what those before it made, and no step reaches back into one.
    """

    draft: Draft
    sweep: str | None = None
    ledger: Ledger = field(default_factory=Ledger)

    # by the pool
    pool: Pool = field(init=False)
    k: int = field(init=False)
    others: dict[str, list[str]] = field(init=False)  # selections that the card compares with
    # by the signals
    signals: dict[str, Any] = field(default_factory=dict)
    # by the selection
    selection: SelectionRecord = field(init=False)
    diagnostics: Diagnostics = field(init=False)
    # by the fine-tuning and the scores
    adapter: Done | None = None
    scores: list[Score] = field(default_factory=list)
    # by the results
    results: ResultsRecord = field(init=False)

    tracked: TrackedRun = field(init=False)

    @property
    def config(self) -> DictConfig:
        """The configuration, which steps have their own parts of in ``parts``."""
        return self.draft.config

    @property
    def folder(self) -> Path:
        """Where the run's files go."""
        return self.draft.folder

    @property
    def parts(self) -> Components:
        """What the configuration names."""
        return self.draft.parts

    @property
    def until(self) -> str | None:
        """The step behind which the run ends, if not behind its results."""
        return self.parts.settings.until

    @property
    def cache(self) -> Path:
        """Where finished stages are kept."""
        return self.draft.cache

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Hashes of what is read from elsewhere: the pool's rows, and the weights of the models."""
        roles = {"proxy": self.parts.proxy, "model": self.parts.model}
        memo = self.cache / "weights"
        weights = {f"weights of the {role}": c.digest(memo) for role, c in roles.items() if c}
        return {"pool": self.pool.digest(), **weights}

    @property
    def stages(self) -> Stages:
        """Finished stages of all runs, in the cache."""
        return self.draft.stages

    @cached_property
    def readings(self) -> Readings:
        """The pool as models read it."""
        memo = self.cache / "weights"

        def keep(role: str, key: dict[str, Any], build: Callable[[Path], None]) -> Path:
            done = self.stages.run("tokens", key, build)
            self.ledger.tokens[role] = {"key": done.key, "reused": done.reused}
            say("tokens", f"key {done.key}, {'reused' if done.reused else f'{done.seconds:.1f} s'}")
            return done.folder

        return Readings(
            self.pool,
            self.parts.template,
            self.folder,
            memo,
            self.ledger,
            lambda role: partial(keep, role),
        )

    @property
    def as_proxy(self) -> Tokenized | None:
        """The pool as selection sees it: the proxy's reading if one is used, else the target's."""
        if self.parts.proxy:
            return self.readings.of("proxy", self.parts.proxy)
        return self.as_model if self.parts.model else None

    @property
    def as_model(self) -> Tokenized:
        """The pool as the target reads it; only asked for where there is a target."""
        assert self.parts.model is not None
        return self.readings.of("model", self.parts.model)

    @cached_property
    def keyed(self) -> KeyedSignals | None:
        """What has to be read before anything is chosen; None if nothing has."""
        needs = self.parts.schedule.needs(self.parts.selector)
        if self.parts.proxy is None or not needs:
            return None
        return KeyedSignals(
            needs=needs,
            rows=self.pool.rows,
            pool=self.pool.digest(),
            tokenized=self.readings.of("proxy", self.parts.proxy),
            extraction=self.parts.extraction,
            targets=lambda: self.targets,
            tokenized_by=lambda other: self.readings.of(Path(other.path).name, other),
            trainer=self.parts.machine.trainer_arguments(),
            stage=self.stage,
            say=say,
        )

    @cached_property
    def targets(self) -> list[Row]:
        """The validation examples that the selector aims at."""
        assert self.parts.validation is not None
        rows = self.parts.validation.rows(self.parts.suite, self.cache / "datasets")
        say("validation", f"{len(rows):,} examples of {len({row.source for row in rows})} subtasks")
        return rows

    def paid(self, stage: Path) -> float | None:
        """Seconds that a finished stage has taken whoever made it; None if nobody wrote them."""
        kept = read_sealed(_cost(stage))
        return float(kept) if kept is not None else None

    def stage(self, name: str, key: dict[str, Any], build: Callable[[Path], None]) -> Done:
        """Find a stage or make it; its seconds and its key go to the ledger."""
        with self.ledger.timed(name), progress(name):
            done = self.stages.run(name, key, build)
        if not done.reused:
            told = f"{self.ledger.seconds[name]:.3f}"
            publish_sealed(_cost(done.folder), lambda path: path.write_text(told, encoding="utf-8"))
        self.ledger.note(name, done.key, done.reused, self.paid(done.folder))
        took = "reused" if done.reused else f"{self.ledger.seconds[name]:.1f} s"
        say(name, f"key {done.key}, {took}")
        return done


def _cost(stage: Path) -> Path:
    """Beside a stage, what it took: no part of it, so that it is the same whoever makes it."""
    return stage.with_name(f"{stage.name}.seconds")


def job(
    config: DictConfig, folder: Path, sweep: str | None = None, alone: bool = True
) -> ResultsRecord | None:
    """Run or plan one configuration, and tell how far it is while it goes on.

    ``alone`` is a run that has the terminal for itself, as the jobs of some launchers have not.

    Raises:
        InputError: as :func:`run`.
    """
    names = [step.name for step in STEPS]
    last = config.until if config.until in names else names[-1]
    shown = names[: names.index(last) + 1]
    with telling(display_of(config, shown, sweep, alone)):
        if config.plan:
            plan(config, folder, sweep)
            return None
        return run(config, folder, sweep)


def run(config: DictConfig, folder: Path, sweep: str | None = None) -> ResultsRecord | None:
    """Run the whole path for one configuration; returns what ``results.json`` holds.

    None if the run was to end before (``until=``). ``folder`` receives all files of the run,
    ``sweep`` names the multirun that it is part of. If the same run is finished there, its results
    are returned and nothing more is done.

    Raises:
        InputError: the configuration or what it names cannot work, or the folder is another run's.
    """
    state = begin(config, folder, sweep)
    done: Any = run_folder.finished(folder, state.inputs)
    if done is not None:
        hand_on(folder, state.parts.settings.export)
        return done
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    name = f"{config.names.selector}-{config.budget}-seed{config.seed}"
    tracker = state.parts.tracker
    with (
        run_folder.claimed(folder, plain),
        tracker.run(_on_top(plain), name, sweep, folder) as state.tracked,
    ):
        state.parts.machine.gather()
        state.readings.begin()
        for step in steps(state.until):
            with progress(step.name):
                step.execute(state)
        if state.until:
            tell_so_far(state, state.until)
            return None
    return state.results


def steps(until: str | None) -> tuple[Step, ...]:
    """What comes after the pool is read, all of it or up to the step of a name."""
    names = [step.name for step in STEPS]
    return STEPS[1 : names.index(until) + 1 if until else None]


def plan(config: DictConfig, folder: Path, sweep: str | None = None) -> None:
    """Write ``plan.json``: what each step would take; nothing of it is done.

    A sweep adds its jobs' plans up at its end.

    Raises:
        InputError: as :func:`run`.
    """
    run_folder.refuse_finished(folder)
    state = begin(config, folder, sweep)
    folder.mkdir(parents=True, exist_ok=True)
    state.readings.begin()
    planner = Planner(state)
    planned: list[dict[str, Any]] = []
    for step in steps(state.until):
        with progress(step.name):
            planned += map(asdict, step.plan(state, planner))
    write_json(folder / "plan.json", planned)
    if sweep is None:
        report.conclude(folder, config.limits, cache=state.cache)


def begin(config: DictConfig, folder: Path, sweep: str | None = None) -> Run:
    """A run whose pool is read, and nothing else done.

    Raises:
        InputError: as :func:`run`.
    """
    state = Run(Draft(config, folder), sweep)
    with progress(ReadPool.name):
        with state.ledger.timed(ReadPool.name):
            for check in checks(state.draft):
                check()
        STEPS[0].execute(state)
    return state


def _on_top(plain: dict[str, Any]) -> dict[str, Any]:
    """The configuration with what people group runs by on top: W&B cannot group by tags."""
    names = plain["names"]
    on_top = {
        "selector_name": names["selector"],
        "penalty": plain["selector"].get("penalty"),
        "model_name": names["model"],
        "proxy_name": names["proxy"],
    }
    return {**plain, **on_top}
