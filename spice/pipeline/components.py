"""A configuration's components, made before anything else; the only caller of ``instantiate``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue

from spice.errors import InputError

if TYPE_CHECKING:
    from spice.data.pool import Data
    from spice.data.rendering import Template
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
        """Make them all; no model is loaded and no row is read."""
        return cls.by(partial(make, config))

    @classmethod
    def by(cls, group: Callable[[str], Any]) -> Components:
        """The same by what makes a group."""
        selector, suite, recipe = group("selector"), group("benchmarks"), group("finetune")
        return cls(
            data=group("data"),
            template=group("template"),
            selector=selector,
            schedule=group("schedule"),
            extraction=group("gradients"),
            lora=group("lora"),
            recipe=recipe,
            suite=suite,
            validation=group("validation") if selector.aims else None,
            machine=group("trainer"),
            tracker=group("logger"),
            proxy=group("proxy") if selector.reads_pool else None,
            model=group("model") if recipe or suite.names else None,
        )


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
