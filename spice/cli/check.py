"""``spice check …``: the overrides of a run, and all that is wrong with them in one answer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import open_dict
from omegaconf.errors import OmegaConfBaseException

from spice.cli.explain import choices, conf_dir, explain

if TYPE_CHECKING:
    from omegaconf import DictConfig

USAGE = "spice check [--config-path FOLDER --config-name NAME] group=option key=value …"


def check(arguments: Sequence[str]) -> int:
    """Print what is wrong, or what a run would begin with; the exit code, 2 or 0."""
    options, overrides = _parser().parse_known_args(list(arguments))
    if flags := [word for word in overrides if word.startswith("-")]:
        return _tell_mistakes([f"{flags[0]}: check looks at one run; it takes {USAGE}"])
    where = Path(options.config_path or conf_dir()).resolve()
    with initialize_config_dir(str(where), version_base="1.3"):
        config, wrong = _composed(options.config_name, overrides)
    if config is None:
        return _tell_mistakes(wrong)
    HydraConfig.instance().set_config(config)
    folder = Path(config.hydra.run.dir)
    with open_dict(config):
        del config["hydra"]
    from spice.pipeline.check import examine  # keeps all of it out of start-up

    mistakes, lines, warnings = examine(config, folder)
    if wrong := [*wrong, *mistakes]:
        return _tell_mistakes(wrong)
    _tell_found(lines, warnings)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(usage=USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument("--config-path", "-cp")
    parser.add_argument("--config-name", "-cn", default="config")
    return parser


def _composed(name: str, overrides: Sequence[str]) -> tuple[DictConfig | None, list[str]]:
    """The configuration, and what is wrong with the overrides that had to be left out of it."""
    try:
        return compose(name, list(overrides), return_hydra_config=True), []
    except (HydraException, OmegaConfBaseException):
        return _without_the_wrong(name, overrides)


def _without_the_wrong(name: str, overrides: Sequence[str]) -> tuple[DictConfig | None, list[str]]:
    """One override after the other, those that choose a group's option first."""
    good: list[str] = []
    wrong: list[str] = []
    lost: list[str] = []  # groups without the option that was meant: their keys tell nothing
    config = None
    for override in sorted(overrides, key=lambda word: not _chooses(word)):
        key = override.lstrip("+~").partition("=")[0]
        if key.partition(".")[0] in lost:
            continue
        try:
            config = compose(name, [*good, override], return_hydra_config=True)
            good.append(override)
        except (HydraException, OmegaConfBaseException) as error:
            wrong.append(explain(error))
            lost += [key] if _chooses(override) else []
    if config is None:
        try:
            config = compose(name, [], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            wrong = [explain(error)]
    return config, wrong


def _chooses(override: str) -> bool:
    """Whether an override chooses an option of a group."""
    return bool(choices(override.lstrip("+~").partition("=")[0].partition("@")[0]))


def _tell_mistakes(wrong: Sequence[str]) -> int:
    print(f"spice check: {len(wrong)} thing{'s' * (len(wrong) > 1)} to mend", file=sys.stderr)
    for number, mistake in enumerate(wrong, start=1):
        print(f"  {number}. {' '.join(mistake.split())}", file=sys.stderr)
    return 2


def _tell_found(lines: Sequence[tuple[str, str]], warnings: Sequence[str]) -> None:
    from textwrap import fill

    width = max(len(name) for name, _ in lines) + 2
    for name, told in lines:
        print(fill(told, 100, initial_indent=name.ljust(width), subsequent_indent=" " * width,
                   break_long_words=False, break_on_hyphens=False))  # fmt: skip
    for warning in warnings:
        print(f"warning: {warning}")
    print("nothing is wrong; the same command without check runs it")
