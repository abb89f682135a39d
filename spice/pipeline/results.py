"""What came out of a job: its record, its figures, and its last words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice.messages import say
from spice.reporting.lines import score_line
from spice.storage import provenance

if TYPE_CHECKING:
    from spice.pipeline.job import Job
    from spice.records import Score


def record(job: Job, selection: Mapping[str, Any], scores: list[Score]) -> dict[str, Any]:
    """What ``results.json`` holds."""
    values = [score.value for score in scores if score.value is not None]
    names = job.config.names
    return {
        "selector": names.selector,
        "budget": _budget(job, selection),
        "k": selection["k"],
        "n": selection["n"],
        "seed": job.config.seed,
        "model": _model_name(names.model, job.config.model),
        "proxy": _model_name(names.proxy, job.config.proxy) if job.parts.proxy else None,
        "scores": {score.benchmark: score.as_dict() for score in scores},
        "average": sum(values) / len(values) if values else None,
        "averaged_over": len(values),
        "selection": job.selection_report,
        "seconds": {stage: round(s, 3) for stage, s in job.seconds.items()},
        "reused": job.reused,
        "keys": job.stages.keys,
        "overrides": list(job.config.names.overrides),
        "versions": provenance.versions(),
        "git": provenance.git_commit(),
        "hardware": provenance.describe(),
    }


def _budget(job: Job, selection: Mapping[str, Any]) -> float:
    """The budget that held: some selectors take all rows or none."""
    if selection["k"] == 0:
        return 0.0
    return 1.0 if selection["k"] > job.k else job.config.budget


def draw(job: Job, selection: Mapping[str, Any]) -> list[Path]:
    """Draw the selection's figures."""
    from spice.reporting.figures import draw_run

    return draw_run(selection, job.selection_report, job.folder / "figures")


def summarise(job: Job, results: Mapping[str, Any]) -> None:
    """Say what came out, and where it lies."""
    for name, score in results["scores"].items():
        say("score", score_line(name, score))
    if results["average"] is not None:
        over = results["averaged_over"]
        say("score", f"average  {100 * results['average']:.1f}  over {over} benchmarks")
    reused = ", ".join(job.reused) or "nothing"
    total = sum(job.seconds.values())
    say("done", f"{total:.1f} s, reused: {reused}")
    say("done", f"run folder {job.folder}")


def _model_name(choice: str, node: Mapping[str, Any]) -> str:
    path = node.get("path")
    return f"{choice}:{path}" if path and choice == "local" else choice
