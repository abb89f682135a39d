"""The choice, with what is said of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import OmegaConf

from spice.data.row_table import ids_of, sources_of
from spice.errors import InputError
from spice.messages import say, warn
from spice.pipeline.budget import swept_picks
from spice.pipeline.plan.planned import Planned
from spice.pipeline.steps.base import KeyedStep
from spice.pipeline.steps.export import hand_on
from spice.records import Selection, SelectionRecord, Signals
from spice.reporting import diagnostics, health, lines, trust
from spice.reporting.card import write_card
from spice.sandbox.report import truth_report
from spice.schedules.base import Request
from spice.selectors.base import GradientSelector
from spice.selectors.nothing import Nothing
from spice.storage.closure import code_version, library_versions
from spice.storage.files import read_json, write_json, write_jsonl
from spice.storage.stages import digest
from spice.submodular.kept_runs import KeptRuns

if TYPE_CHECKING:
    from spice.pipeline.plan.planner import Planner
    from spice.pipeline.run import Run
    from spice.storage.stages import Done

#: what is said of a choice, beside the choice itself; None where there is nothing of the kind
FACTS = ("report", "health", "reliability")
LINES = {"health": health.health_line, "reliability": trust.trust_line}
REPORTS = ("spice.reporting.diagnostics", "spice.reporting.health", "spice.reporting.trust")


class Select(KeyedStep):
    """Sets ``selection`` and ``diagnostics``; writes the files that tell of them."""

    name = "selection"

    def key(self, run: Run) -> dict[str, Any]:
        """What decides the choice; where rows lie and how a run is logged does not."""
        keys = run.keyed.keys if run.keyed else {}
        made_by = self._code(run)
        return {
            "data": run.pool.digest(),
            "view": run.as_proxy.view if run.as_proxy else None,
            "signals": {name: digest(key) for name, key in keys.items()},
            "selector": selector_options(run),
            "k": run.k,
            "seed": run.config.seed,
            "schedule": run.parts.schedule.fingerprint(run.parts.extraction),
            "code": code_version(*made_by),
            "versions": library_versions(*made_by),
        }

    def _code(self, run: Run) -> tuple[str, ...]:
        chosen_by = run.parts.selector, run.parts.schedule
        return *(type(part).__module__ for part in chosen_by), *REPORTS

    def build(self, run: Run, folder: Path) -> None:
        """Choose, and examine the choice.

        Raises:
            InputError: not one row can be picked.
        """
        request = self.request(run, folder / "learning")
        selection = run.parts.schedule.choose(request)
        _check_picked(run, selection)
        facts = diagnostics.report(selection, request.signals)
        write_json(folder / "selection.json", _record(run, selection))
        if trusted := _trust(run, request, selection):
            write_json(folder / "reliability.json", trusted)
            facts["reliability"] = {k: v for k, v in trusted.items() if k != "least_trusted"}
        if found := _health(run, request, selection):
            write_json(folder / "health.json", found)
        write_json(folder / "report.json", facts)
        shutil.rmtree(folder / "learning", ignore_errors=True)

    def request(self, run: Run, folder: Path) -> Request:
        """What the schedule is asked."""
        rows = run.pool.rows
        signals = Signals(ids_of(rows), sources_of(rows), _lengths(run), **run.signals)
        return Request(
            selector=run.parts.selector,
            signals=signals,
            k=run.k,
            seed=run.config.seed,
            tokenized=run.as_proxy,
            extraction=run.parts.extraction,
            trainer=run.parts.machine.trainer_arguments(),
            folder=folder,
            kept=kept_runs(run),
        )

    def load(self, run: Run, done: Done) -> None:
        """Copy what was chosen and found into the run folder, tell it, and write the card."""
        run.selection = read_json(done.folder / "selection.json")
        run.selection["config"] = OmegaConf.to_container(run.config, resolve=True)  # type: ignore[typeddict-item]
        if run.selection["partitions"]:  # what was asked for is this run's, the choice may not be
            run.selection["partitions"]["asked"] = run.config.selector.partitions
        found = {name: done.folder / f"{name}.json" for name in FACTS}
        facts = {name: read_json(path) for name, path in found.items() if path.is_file()}
        run.diagnostics = facts["report"]
        write_json(run.folder / "selection.json", run.selection)
        write_json(run.folder / "selection_report.json", run.diagnostics)
        for name in LINES:
            if name in facts:
                write_json(run.folder / f"{name}.json", facts[name])
                say(name, LINES[name](facts[name]))
        picked = (run.pool.rows[index] for index in run.selection["indices"])
        write_jsonl(run.folder / "selected.jsonl", (row.as_dict() for row in picked))
        if run.pool.truth is not None:
            truth = truth_report(run.pool.rows, run.selection["ids"], run.pool.truth)
            write_json(run.folder / "truth.json", truth)
        _tell(run)
        _write_card(run, facts.get("reliability"))
        run.tracked.log_selection(run.selection, run.diagnostics)
        hand_on(run.folder, run.parts.settings.export)

    def plan(self, run: Run, planner: Planner) -> Iterator[Planned]:
        """The greedy runs, and the choice itself; what it chose tells what comes after."""
        key = self.key(run)
        planner.undecided = digest(key)
        if run.stages.has(self.name, key):
            planner.chosen = read_json(run.stages.folder(self.name, key) / "selection.json")["ids"]
            yield planner.there(self.name, key)
            return
        request = self.request(run, run.folder)
        if kept := request.kept:
            yield from planner.greedy(kept)
            yield planner.greedy_again(digest(key))
        elif works := run.parts.schedule.work(request):
            yield planner.of(self.name, digest(key), works, 0)
        else:  # how long others take to pick cannot be told without what they need
            seconds = None if run.parts.selector.needs else 0.0
            yield Planned(self.name, digest(key), False, seconds, None, 0)
        if not run.parts.selector.needs:
            selection = run.parts.schedule.choose(request)
            named = ids_of(run.pool.rows)
            planner.chosen = [named[row] for row in selection.indices]


def selector_options(run: Run) -> dict[str, Any]:
    """The selector's options; files that it reads count by their content."""
    options: Any = OmegaConf.to_container(run.config.selector, resolve=True)
    return {**options, **run.parts.selector.fingerprint(), **_partitions(run)}


def _partitions(run: Run) -> dict[str, int]:
    """Into how many parts the pool goes, as a number even where that was left open."""
    selector = run.parts.selector
    if not isinstance(selector, GradientSelector):
        return {}
    return {"partitions": selector.parts(len(run.pool.rows), run.k) if run.keyed else 1}


def kept_runs(run: Run) -> KeptRuns | None:
    """Greedy runs over the whole pool, for all budgets and all ω; None without such a greedy.

    Windows have one each, and need nothing read beforehand.
    """
    selector = run.parts.selector
    if not isinstance(selector, GradientSelector) or run.keyed is None:
        return None
    apart = ("k", "seed", "schedule", "selector")
    key = {name: value for name, value in Select().key(run).items() if name not in apart}
    inputs = {**key, "objective": selector.objective_options()}
    n = len(run.pool.rows)
    picks = swept_picks(Path(run.sweep), n) if run.sweep else []
    longest = max((k for k in picks if selector.parts(n, k) == 1), default=0)
    return KeptRuns(run.cache / "orders", inputs, longest)


def _lengths(run: Run) -> np.ndarray:
    """Supervised tokens of each row, n; zeros where no model reads the pool."""
    return run.as_proxy.lengths if run.as_proxy else np.zeros(len(run.pool.rows), dtype=np.int64)


def _record(run: Run, selection: Selection) -> dict[str, Any]:
    named = ids_of(run.pool.rows)

    def ids(rows: Sequence[int]) -> list[str]:
        return [named[row] for row in rows]

    plain = {
        name: getattr(selection, name)
        for name in SelectionRecord.__annotations__
        if name not in ("ids", "excluded", "selector", "config")
    }
    return {
        **plain,
        "ids": ids(selection.indices),
        "excluded": {why: ids(rows) for why, rows in selection.excluded.items()},
        "selector": run.config.names.selector,
    }


def _check_picked(run: Run, selection: Selection) -> None:
    if selection.k or isinstance(run.parts.selector, Nothing):
        return
    why = {why: len(rows) for why, rows in selection.excluded.items() if rows}
    told = ", ".join(f"{count:,} {reason}" for reason, count in why.items())
    raise InputError(
        f"selector={run.config.names.selector}: not one of {selection.n:,} rows can be picked "
        f"({told or 'none has anything to learn from'}); audit.json tells of the rows. Half "
        "precision overflows easily: try proxy.dtype=float32"
    )


def _trust(run: Run, request: Request, selection: Selection) -> dict[str, Any] | None:
    """How far the rows were trusted, if they were weighed."""
    if "reliability" not in request.signals:
        return None
    table = request.signals["reliability"]
    return trust.examine(table, run.pool.rows, request.eligible, selection)


def _health(run: Run, request: Request, selection: Selection) -> dict[str, Any] | None:
    """What is wrong with the gradients that were chosen by, if a store's were."""
    selector, signals = request.selector, request.signals
    if not isinstance(selector, GradientSelector) or "gradients" not in signals:
        return None
    gradients, eligible = signals["gradients"], request.eligible
    seen = selector.seen(gradients, eligible, signals.weights)

    def choose(eligible: Sequence[int]) -> list[int]:
        return selector.picks(seen, signals.ids, request.k, eligible, signals.sources)

    # What is wrong with a gradient is told at its own length, whatever the choice is made by.
    found = health.examine(gradients, run.pool.rows, eligible, selection.indices, choose)
    return {**found, **_moved(run)}


def _moved(run: Run) -> dict[str, Any]:
    """By how much projection and rounding moved the gradients' inner products, if they did."""
    assert run.keyed is not None
    store = run.stages.folder("gradients", run.keyed.keys["gradients"])
    told = {what: store / f"{what}.json" for what in ("projection", "rounding")}
    return {what: read_json(file) if file.is_file() else None for what, file in told.items()}


def _tell(run: Run) -> None:
    facts, selection = run.diagnostics, run.selection
    k, information = selection["k"], selection["information"]
    if k == 0:
        say("selection", "nothing chosen: the model stays untuned")
        return
    gained = f", F(S) = {information:.3f} nats" if information is not None else ""
    say("selection", f"{k:,} of {selection['n']:,} rows{gained}")
    if information is not None:
        say("selection", lines.diagnostics_line(facts))
    for line in lines.partitions_lines(selection):
        say("selection", line)
    say("selection", f"sources: {lines.sources_line(facts)}")
    if k < run.k:
        facts["warnings"].append(f"{run.k} rows were asked for, {k} chosen")
    for warning in facts["warnings"]:
        warn("selection", warning)


def _write_card(run: Run, trusted: Mapping[str, Any] | None) -> None:
    write_card(
        run.folder, run.pool.rows, _lengths(run), run.selection, run.diagnostics, run.others,
        run.config.seed, trusted, {**run.pool.report(), "audits": run.readings.audits()},
    )  # fmt: skip
