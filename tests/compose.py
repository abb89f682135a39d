"""A run's configuration without a command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from spice.cli.explain import conf_dir
from spice.pipeline.run import Run, begin
from spice.pipeline.steps.selection import Select
from spice.pipeline.steps.signals import ReadSignals
from spice.reporting.tracking import TrackedRun


def composed(*overrides: str) -> Any:
    """The configuration of a run, as Hydra hands it to the pipeline."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        return config


def job(*overrides: str) -> Any:
    """The same without Hydra's own part: what the pipeline's steps are handed."""
    config = composed(*overrides)
    with open_dict(config):
        del config["hydra"]
    return config


def begun(folder: Path, cache: Path, *overrides: str) -> Run:
    """A run whose pool is read."""
    folder.mkdir(exist_ok=True)
    state = begin(job(*overrides, f"cache_dir={cache}"), folder)
    state.tracked = TrackedRun(folder, None)
    return state


def selected(folder: Path, cache: Path, *overrides: str) -> Run:
    """A run that has chosen, and goes no further."""
    state = begun(folder, cache, *overrides)
    ReadSignals().execute(state)
    Select().execute(state)
    return state
