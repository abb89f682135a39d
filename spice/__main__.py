"""The command line: compose a configuration, hand it to the pipeline, report in one line.

``spice selector=spice budget=0.1`` or ``python -m spice …``; ``spice --help`` lists what there is.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from spice import help
from spice.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig


def conf_dir() -> Path:
    """The configuration: the copy that the wheel carries, or the source tree's."""
    package = Path(__file__).parent
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parent / "conf"


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def _run(config: DictConfig) -> float | None:
    """One job; returns the average score, which is what an optimising sweeper wants."""
    from spice.pipeline import run

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if hydra_config.mode == RunMode.MULTIRUN:
        return run(config, folder, hydra_config.sweep.dir)["average"]
    try:
        return run(config, folder)["average"]
    except InputError as error:  # in a sweep Hydra says which job it was; alone, that is noise
        _stop(str(error), 2)


def main() -> None:
    """Entry point: a mistake of the user's is one line and exit code 2."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # hand exceptions over instead of printing them
    # libgomp's threads wait for each other by spinning, which makes a run 20 times slower as soon
    # as anything else uses the cores; a short spin costs nothing on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help.text(conf_dir()))
        return
    sys.argv[1:] = _absolute_config_path(sys.argv[1:])
    try:
        _run()
    except InputError as error:
        _stop(str(error), 2)
    except (ConfigCompositionException, HydraException) as error:
        _stop(explain(error), 2)
    except OmegaConfBaseException as error:  # such as a mandatory key left out
        _stop(str(error).splitlines()[0], 2)
    except KeyboardInterrupt:
        _stop("interrupted; the same command goes on from the finished stages", 130)


def explain(error: Exception) -> str:
    """Hydra's message in one line, with the nearest known name."""
    message = str(error)
    group = re.search(r"Could not find '([\w/]+)/([^'/]+)'", message)
    if group:
        name, choice = group.groups()
        known = choices(name)
        return (
            f"{name}={choice}: no such {name}.{did_you_mean(choice, known)} "
            f"Known: {', '.join(known)}."
        )
    override = re.search(r"Could not override '([\w.@/]+)'", message)
    if override:
        return _unknown_key(override.group(1))
    return " ".join(line.strip() for line in message.splitlines() if line.strip())


def choices(group: str) -> list[str]:
    """The options of a config group."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def _unknown_key(key: str) -> str:
    """Say which keys there are where an override missed."""
    import yaml

    top, _, inner = key.partition(".")
    files = [conf_dir() / "config.yaml"]
    files += sorted((conf_dir() / top).glob("*.yaml")) if inner else []
    known: set[str] = set()
    for path in files:
        found = yaml.safe_load(path.read_text()) or {}
        known |= set(found) - {"defaults", "_target_"}
    if not inner:
        known |= {path.name for path in conf_dir().iterdir() if path.is_dir()}
    hint = did_you_mean(inner.split(".")[0] or top, known)
    return f"no such key: {key}.{hint} `spice --help` lists the groups, `--cfg job` all keys."


def _absolute_config_path(arguments: list[str]) -> list[str]:
    """Let ``--config-path`` be given from where the user stands, as run folders are."""
    fixed = list(arguments)
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in {"--config-path", "-cp"} and equals:
            fixed[i] = f"{name}={_absolute(value)}"
        elif name in {"--config-path", "-cp"} and i + 1 < len(arguments):
            fixed[i + 1] = _absolute(arguments[i + 1])
    return fixed


def _absolute(folder: str) -> str:
    return str(Path(folder).resolve()) if Path(folder).is_dir() else folder


def _stop(message: str, code: int) -> NoReturn:
    print(f"spice: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
