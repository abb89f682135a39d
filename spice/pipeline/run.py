"""The stages in order: pool, gradients, selection, fine-tuning, scores.

Everything that is called from here takes plain arguments and never sees the configuration.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from spice.errors import InputError
from spice.messages import say
from spice.pipeline import results
from spice.pipeline.components import Components
from spice.pipeline.job import Job
from spice.pipeline.machine import quiet
from spice.pipeline.plan.planner import Planner
from spice.pipeline.plan.report import publish
from spice.storage.files import write_json
from spice.storage.stages import Stages


def run(config: DictConfig, folder: Path, sweep: str | None = None) -> dict[str, Any]:
    """Run the whole path for one configuration; returns what ``results.json`` holds.

    ``folder`` receives all files of the run, ``sweep`` names the multirun that it is part of.
    """
    if (folder / "results.json").exists():
        raise InputError(f"{folder} holds a finished run already; nothing is written over")
    cache = Path(config.cache_dir).expanduser()
    job = Job(config, folder, Components.of(config), Stages(cache, say), cache / "weights", sweep)
    job.load_pool()
    quiet()
    folder.mkdir(parents=True, exist_ok=True)
    if config.get("plan"):
        return _plan(job)
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain)))
    name = f"{config.names.selector}-{config.budget}-seed{config.seed}"
    with job.parts.tracker.run(_tracked_config(plain), name, sweep, folder) as tracked:
        selection = job.select()
        tracked.log_selection(selection, job.selection_report)
        adapter = job.tune(selection, tracked)
        scores = job.score(adapter, tracked)
        found = results.record(job, selection, scores)
        write_json(folder / "results.json", found)
        tracked.log_results(found, results.draw(job, selection))
    results.summarise(job, found)
    return found


def _plan(job: Job) -> dict[str, Any]:
    """What the job would take, and nothing of it done; a sweep adds its jobs up at its end."""
    stages = [dataclasses.asdict(stage) for stage in Planner(job).stages()]
    write_json(job.folder / "plan.json", stages)
    if job.sweep is None:
        publish(job.folder, job.config.limits, job.stages.root)
    return {"average": None}


def _tracked_config(plain: Any) -> dict[str, Any]:
    """The configuration with what people group runs by on top: tags cannot be grouped."""
    names = plain["names"]
    on_top = {
        "selector_name": names["selector"],
        "penalty": plain["selector"].get("penalty"),
        "model_name": names["model"],
        "proxy_name": names["proxy"],
    }
    return {**plain, **on_top}
