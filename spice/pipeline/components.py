"""A configuration's components, made before anything else; the only caller of ``instantiate``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue

from spice.errors import InputError

if TYPE_CHECKING:
    from spice.data.pool import Data
    from spice.data.template import Template
    from spice.evaluation.benchmarks import Suite
    from spice.evaluation.development import BenchmarkExamples, FileExamples
    from spice.gradients.extraction import Extraction
    from spice.models.checkpoint import Checkpoint
    from spice.models.lora import Lora
    from spice.pipeline.machine import Machine
    from spice.reporting.tracking import Tracker
    from spice.schedules.base import Schedule
    from spice.selectors.base import Method
    from spice.training.recipe import Recipe


@dataclass(frozen=True)
class Components:
    """What a run is made of.

    ``recipe`` is None where nothing is trained; ``proxy`` and ``model`` are None where nothing
    reads them.
    """

    data: Data
    template: Template
    selector: Method
    schedule: Schedule
    extraction: Extraction
    lora: Lora
    recipe: Recipe | None
    suite: Suite
    validation: BenchmarkExamples | FileExamples | None
    machine: Machine
    tracker: Tracker
    proxy: Checkpoint | None
    model: Checkpoint | None

    @classmethod
    def of(cls, config: DictConfig) -> Components:
        """Make them all, and refuse what cannot work; no model is loaded and no row is read."""
        selector, suite = make(config, "selector"), make(config, "benchmarks")
        recipe = make(config, "finetune")
        parts = cls(
            data=make(config, "data"),
            template=make(config, "template"),
            selector=selector,
            schedule=make(config, "schedule"),
            extraction=make(config, "gradients"),
            lora=make(config, "lora"),
            recipe=recipe,
            suite=suite,
            validation=make(config, "validation") if selector.aims else None,
            machine=make(config, "trainer"),
            tracker=make(config, "logger"),
            proxy=make(config, "proxy") if selector.reads_pool else None,
            model=make(config, "model") if recipe or suite.names else None,
        )
        parts.schedule.check(selector, config.names.selector)
        suite.check()
        for role, checkpoint in (("proxy", parts.proxy), ("model", parts.model)):
            if checkpoint:
                checkpoint.check(role)
        for reader in (c for signal in selector.needs.values() for c in signal.readers()):
            reader.check("selector.more_proxies")
        return parts


def make(config: DictConfig, group: str) -> Any:
    """Instantiate one group from plain arguments; the user's mistakes become his messages.

    Raises:
        InputError: a mandatory key is missing, a key is unknown, or a value is refused.
    """
    try:
        return instantiate(config[group], _convert_="all")
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key} is missing; give {error.full_key}=…") from None
    except InstantiationException as error:
        if unknown := re.search(r"Error locating target '([^']+)'", str(error)):
            raise InputError(f"{group}: {_unknown(unknown[1])}") from None
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, TypeError):  # a key that the component does not take
            raise InputError(f"{group}: {error.__cause__}") from None
        raise


def _unknown(target: str) -> str:
    """For classes of the user's own, and for run folders of another version."""
    return (
        f"no such class: {target}. Is it on PYTHONPATH? A config.yaml that another version of "
        "spice wrote is not understood: give its overrides (names.overrides in it) to this "
        "version instead"
    )
