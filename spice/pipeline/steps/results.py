"""What came out: ``results.json``, figures, and a run's last words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from spice.messages import say
from spice.pipeline.run_folder import SO_FAR
from spice.pipeline.steps.base import Step
from spice.reporting.lines import score_line
from spice.storage import provenance
from spice.storage.files import write_json

if TYPE_CHECKING:
    from spice.pipeline.run import Run
    from spice.records import ResultsRecord


class Record(Step):
    """Sets ``results``; writes ``figures/`` and, last of all, ``results.json``."""

    name = "results"

    def execute(self, run: Run) -> None:
        """Record, draw, log and summarise."""
        from spice.reporting.figures import draw_run  # keeps matplotlib out of start-up

        run.results = record(run)
        figures = draw_run(run.selection, run.diagnostics, run.folder / "figures")
        write_json(run.folder / "results.json", run.results)
        run.tracked.log_results(run.results, figures)
        _summarise(run)


def tell_so_far(run: Run, until: str) -> None:
    """Say what a run has made that ends before its results, and write it to ``until.json``."""
    facts = {
        "until": until,
        "selector": run.config.names.selector,
        "budget": run.config.budget,
        "seed": run.config.seed,
        "seconds": _seconds(run),
        "reused": run.ledger.reused,
        "keys": run.ledger.keys,
        "tokens": run.ledger.tokens,
        "overrides": list(run.config.names.overrides),
    }
    write_json(run.folder / SO_FAR, facts)
    _tell_cost(run)
    say("done", f"until={until}: the same command without it goes on from here")


def record(run: Run) -> ResultsRecord:
    """What ``results.json`` holds."""
    values = [score.value for score in run.scores if score.value is not None]
    names = run.config.names
    return {
        "selector": names.selector,
        "budget": _budget(run),
        "k": run.selection["k"],
        "n": run.selection["n"],
        "seed": run.config.seed,
        "model": _model_name(names.model, run.config.model),
        "proxy": _model_name(names.proxy, run.config.proxy) if run.parts.proxy else None,
        "scores": {score.benchmark: score.as_dict() for score in run.scores},
        "average": sum(values) / len(values) if values else None,
        "averaged_over": len(values),
        "selection": run.diagnostics,
        "seconds": _seconds(run),
        "reused": run.ledger.reused,
        "paid": run.ledger.paid,
        "keys": run.ledger.keys,
        "tokens": run.ledger.tokens,
        "inputs": run.inputs,
        "overrides": list(names.overrides),
        "versions": dict(provenance.versions()),
        "git": provenance.git_commit(),
        "hardware": provenance.describe(),
    }


def _seconds(run: Run) -> dict[str, float]:
    return {step: round(s, 3) for step, s in run.ledger.seconds.items()}


def _budget(run: Run) -> float:
    """The budget that held: some selectors take all rows or none."""
    if run.selection["k"] == 0:
        return 0.0
    return 1.0 if run.selection["k"] > run.k else run.config.budget


def _model_name(choice: str, node: Mapping[str, Any]) -> str:
    path = node.get("path")
    return f"{choice}:{path}" if path and choice == "local" else choice


def _summarise(run: Run) -> None:
    """Say what came out, and where it lies."""
    for name, score in run.results["scores"].items():
        say("score", score_line(name, score))
    if run.results["average"] is not None:
        over = run.results["averaged_over"]
        say("score", f"average  {100 * run.results['average']:.1f}  over {over} benchmarks")
    _tell_cost(run)
    say("done", f"run folder {run.folder}")


def _tell_cost(run: Run) -> None:
    total = sum(run.ledger.seconds.values())
    say("done", f"{total:.1f} s, reused: {', '.join(run.ledger.reused) or 'nothing'}")
