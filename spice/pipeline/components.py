"""A configuration's components, made before anything else is done."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from spice.data.pool import Data
from spice.data.template import Template
from spice.errors import InputError, did_you_mean
from spice.evaluation.benchmarks import Suite
from spice.evaluation.development import BenchmarkExamples, FileExamples
from spice.gradients.extraction import Extraction
from spice.models.checkpoint import Checkpoint
from spice.models.lora import Lora
from spice.pipeline import targets
from spice.pipeline.machine import Machine
from spice.pipeline.settings import Settings
from spice.reporting.tracking import Tracker
from spice.schedules.base import Schedule
from spice.selectors.base import Method
from spice.training.recipe import Recipe
from spice.values import MISSING, UNKNOWN, Problem, RefusedError, ValuesError

#: what each group has to be
GROUPS: dict[str, tuple[type, ...]] = {
    "data": (Data,),
    "template": (Template,),
    "selector": (Method,),
    "schedule": (Schedule,),
    "gradients": (Extraction,),
    "lora": (Lora,),
    "finetune": (Recipe, type(None)),
    "benchmarks": (Suite,),
    "validation": (BenchmarkExamples, FileExamples),
    "trainer": (Machine,),
    "logger": (Tracker,),
    "proxy": (Checkpoint,),
    "model": (Checkpoint,),
}
#: those that may lack what they cannot be without, as long as nothing uses them
OPTIONAL = ("validation", "proxy", "model")
BROKEN = object()  # stands where a value could not be made
ABSENT = "???"
REFERRED = re.compile(r"\$\{(?:oc\.select:)?([\w.]+)(?:,[^}]*)?\}")  # to another key


@dataclass(frozen=True)
class Components:
    """What a run is made of.

    ``recipe`` is None where nothing is trained; ``proxy`` and ``model`` are None where nothing
    reads them, ``validation`` where nothing aims at it.
    """

    settings: Settings
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
    def of(cls, config: DictConfig, group: Callable[[str], Any] | None = None) -> Components:
        """Make them all, and refuse what cannot work; no model is loaded and no row is read.

        ``group`` makes one by its name, where somebody keeps what is made.

        Raises:
            InputError: all that is wrong, a line each.
        """
        errors: list[str] = []
        group = group or partial(make, config)
        made = {name: _noted(errors, partial(group, name)) for name in given(config)}
        settings = _noted(errors, partial(make_settings, config))
        _refuse(errors)
        selector, recipe, suite = made["selector"], made["finetune"], made["benchmarks"]
        used = {
            "validation": selector.aims,
            "proxy": selector.reads_pool,
            "model": bool(recipe or suite.names),
        }
        needed = [name for name in OPTIONAL if used[name] and name not in made]
        made |= {name: _noted(errors, partial(group, name)) for name in needed}
        parts = cls(
            settings=settings,
            data=made["data"],
            template=made["template"],
            selector=selector,
            schedule=made["schedule"],
            extraction=made["gradients"],
            lora=made["lora"],
            recipe=recipe,
            suite=suite,
            machine=made["trainer"],
            tracker=made["logger"],
            **{name: made[name] if used[name] else None for name in OPTIONAL},
        )
        if not errors:
            parts._check(errors, config.names.selector)
        _refuse(errors)
        return parts

    def _check(self, errors: list[str], selector: str) -> None:
        """What the parts ask of each other, and of the files that they name."""
        _noted(errors, partial(self.schedule.check, self.selector, selector))
        aimed_at = isinstance(self.validation, BenchmarkExamples)
        _noted(errors, partial(self.suite.check, aimed_at))
        if isinstance(self.validation, FileExamples):
            _noted(errors, self.validation.check)
        for role, checkpoint in (("proxy", self.proxy), ("model", self.model)):
            if checkpoint:
                _noted(errors, partial(checkpoint.check, role))
        for reader in (c for signal in self.selector.needs.values() for c in signal.readers()):
            _noted(errors, partial(reader.check, "selector.more_proxies"))


def make(config: DictConfig, group: str) -> Any:
    """Make what stands behind one group; the user's mistakes become his messages.

    Raises:
        InputError: what is wrong with it, a line for each key, named as the user types it.
    """
    maker = _Maker(config)
    made = maker.made(_plain(config, group), (group,), GROUPS[group])
    _refuse(maker.errors)
    return made


@dataclass
class _Maker:
    """Makes components from the inside out, and goes on after an error to find the others."""

    config: DictConfig
    errors: list[str] = field(default_factory=list)

    def made(self, value: Any, path: tuple[str, ...], expected: tuple[type, ...] = ()) -> Any:
        """``value`` with all components in it made; BROKEN where one cannot be."""
        if value == ABSENT:
            return self._refused(Problem(path, value, MISSING))
        if value is None and type(None) in expected:
            return None
        if expected and "_target_" not in (value if isinstance(value, dict) else ()):
            words = f"must hold the keys of {targets.named(expected)}"
            return self._refused(Problem(path, value, words))
        if isinstance(value, list):
            return [self.made(held, path) for held in value]
        if not isinstance(value, dict):
            return value
        keys = {str(name): self.made(held, (*path, str(name)))
                for name, held in value.items() if name != "_target_"}  # fmt: skip
        if "_target_" not in value:
            return keys
        return self._component(value["_target_"], keys, path, expected)

    def _component(
        self, target: Any, keys: dict[str, Any], path: tuple[str, ...], expected: tuple[type, ...]
    ) -> Any:
        try:
            call = targets.located(target, expected)
            if "__pydantic_fields__" not in vars(call):
                targets.check_keys(call, keys)
            return call(**keys)
        except ValuesError as error:
            return self._refused(*(p._replace(path=(*path, *p.path)) if p.path else p
                                   for p in error.problems if p.value is not BROKEN))  # fmt: skip
        except RefusedError as error:
            return self._refused(Problem((*path, error.key), error.value, error.words))
        except InputError as error:
            return self._refused(Problem((), None, str(error)))

    def _refused(self, *problems: Problem) -> Any:
        for problem in problems:
            path = tuple(self._key(problem.path).split(".")) if problem.path else ()
            self.errors.append(problem._replace(path=path).told())
        return BROKEN

    def _key(self, path: tuple[str, ...]) -> str:
        """A key as the user types it: that of what is only referred to, where it stands itself."""
        node = self._written
        for length, name in enumerate(path, start=1):
            node = node.get(name) if isinstance(node, dict) else None
            if isinstance(node, str) and (referred := REFERRED.fullmatch(node)):
                return self._key((*referred[1].split("."), *path[length:]))
        return ".".join(path)

    @cached_property
    def _written(self) -> Any:
        return OmegaConf.to_container(self.config, resolve=False)


def given(config: DictConfig) -> list[str]:
    """Groups to be made in any case: even what nothing uses must be right, but may be missing."""
    return [group for group in GROUPS if group not in OPTIONAL or not _missing(config[group])]


def _missing(node: Any) -> bool:
    return isinstance(node, DictConfig) and bool(OmegaConf.missing_keys(node))


def make_settings(config: DictConfig) -> Settings:
    """The keys on top.

    Raises:
        InputError: what is wrong with them, a line each.
    """
    names = [str(key) for key in config if key not in GROUPS and key != "hydra"]
    try:
        return Settings(**{name: _plain(config, name) for name in names})
    except ValuesError as error:
        _refuse(_elsewhere(config, problem) for problem in error.problems)
        raise


def _elsewhere(config: DictConfig, problem: Problem) -> str:
    """A key on top that is none there may be one of a group's."""
    name = problem.path[0]
    if problem.value == ABSENT:
        return problem._replace(words=MISSING).told()
    if len(problem.path) == 1 and problem.words.startswith(UNKNOWN):
        groups = {g: config[g] for g in GROUPS if isinstance(config[g], DictConfig)}
        known = [f"{group}.{name}" for group, node in groups.items() if name in node]
        hint = f" Did you mean '{known[0]}'?" if known else did_you_mean(name, map(str, config))
        return problem._replace(words=UNKNOWN + hint).told()
    return problem.told()


def _plain(config: DictConfig, key: str) -> Any:
    """A key's value as Python has it, references resolved."""
    if OmegaConf.is_missing(config, key):
        return ABSENT
    try:
        value = config[key]
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException as error:
        told = str(error).splitlines()[0]
        plain = str(OmegaConf.to_container(config, resolve=False)[key])  # type: ignore[call-overload,index]
        at = re.search(r"\$\{(\w+)\.", plain)
        if at and "nterpolation" in told:  # what it refers to is at fault
            raise InputError(f"{at[1]}: lacks what {key} takes from it") from None
        raise InputError(f"{key}: {told}") from None


def _noted(errors: list[str], call: Callable[[], Any]) -> Any:
    """What ``call`` returns; what it refuses goes to ``errors``."""
    try:
        return call()
    except InputError as error:
        errors += str(error).splitlines()
        return None


def _refuse(errors: Iterable[str]) -> None:
    if found := list(dict.fromkeys(errors)):
        raise InputError("\n".join(found))
