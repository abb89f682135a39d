"""Hydra's launchers, which run the jobs of a sweep in processes of their own."""

from __future__ import annotations

import os
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING

from spice.errors import InputError
from spice.messages import hear, say

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig

PLUGINS = "hydra_plugins.hydra_"
#: whose errors tell of a job's process rather than of the job
ENGINES = ("joblib", "submitit", "ray")

# Ours bear the names of those that the plugins bring, and hold all of their keys.
warnings.filterwarnings("ignore", message=r"\n'hydra/launcher/\w+' is validated against")


def here(hydra: HydraConf) -> bool:
    """Whether jobs run one after the other in the process that was started."""
    return not hydra.launcher["_target_"].startswith(PLUGINS)


def check(config: DictConfig) -> None:
    """Refuse a sweep whose launcher is not installed, or that can only be planned without one.

    Raises:
        InputError: so it is.
    """
    name, target = config.hydra.runtime.choices["hydra/launcher"], config.hydra.launcher._target_
    if not target.startswith(PLUGINS):
        return
    package = target.split(".")[1]
    extra = package.removeprefix("hydra_").removesuffix("_launcher")
    if not find_spec(f"hydra_plugins.{package}"):
        raise InputError(
            f"hydra/launcher={name}: {package} is not installed; "
            f"pip install 'spice-selection[{extra}]'"
        )
    if config.plan:
        raise InputError(
            f"plan=true: its measurements are of one job at a time; leave out hydra/launcher={name}"
        )


def prepare(config: DictConfig) -> None:
    """What submitit's local jobs inherit: their threads, which it does not see to itself."""
    launcher = config.hydra.launcher
    if not launcher._target_.endswith(".LocalLauncher"):
        return
    os.environ.setdefault("OMP_NUM_THREADS", str(launcher.cpus_per_task or 1))
    if config.hydra.sweeper.get("max_batch_size") is None:
        hear()
        say("sweep", "all jobs start at once; hydra.sweeper.max_batch_size=2: two at a time")


def told(error: BaseException) -> str | None:
    """One line for a job whose process ended without an answer; None for any other error."""
    if type(error).__module__.partition(".")[0] not in ENGINES:
        return None
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return (
        f"a job of the sweep ended without an answer ({type(error).__name__}: {first.strip()}); "
        "its run.log tells how far it came, and the same command goes on from what is finished"
    )
