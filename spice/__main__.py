"""The command line: compose a configuration, hand it to the pipeline, report in one line.

``spice selector=spice budget=0.1`` or ``python -m spice …``; ``spice check`` before the same runs
nothing and tells all that is wrong; ``spice --help`` lists what there is.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from spice import stopping

stopping.at_start(sys.argv[0])  # before the imports below, which take most of a second

import hydra  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.errors import ConfigCompositionException, HydraException  # noqa: E402
from hydra.types import RunMode  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from spice.cli import handed_on, help  # noqa: E402
from spice.cli.check import check  # noqa: E402
from spice.cli.diagnose import diagnose  # noqa: E402
from spice.cli.explain import conf_dir, explain  # noqa: E402
from spice.cli.export import export  # noqa: E402
from spice.cli.open_keys import opened  # noqa: E402
from spice.cli.report import report  # noqa: E402
from spice.distributed import ranks, serving, team  # noqa: E402
from spice.errors import InputError  # noqa: E402
from spice.messages import shown  # noqa: E402
from spice.pipeline import jobs, launchers  # noqa: E402
from spice.reporting.telling import telling  # noqa: E402
from spice.storage import disk  # noqa: E402

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: all else is a run
COMMANDS = {"check": check, "diagnose": diagnose, "export": export, "report": report}


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def _run(config: DictConfig) -> float | None:
    """One job; returns the average score, which is what an optimising sweeper wants."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if hydra_config.mode == RunMode.MULTIRUN:
        with stopping.listening(job=True):
            alone = launchers.here(hydra_config)
            work = partial(_job, config, folder, hydra_config.sweep.dir, alone)
            return work() if config.plan else jobs.attempt(hydra_config, work)
    try:
        return _job(config, folder)
    except InputError as error:  # in a sweep Hydra says which job it was; alone, that is noise
        _stop(str(error), 2)


def _job(
    config: DictConfig, folder: Path, sweep: str | None = None, alone: bool = True
) -> float | None:
    from spice.pipeline.run import job  # keeps all of it out of start-up: --help needs none

    try:
        results = job(config, folder, sweep, alone)
        return results["average"] if results else None
    except Exception as error:
        if told := disk.refusal(error, folder):
            raise InputError(told) from error
        raise


def main() -> None:
    """Entry point: a mistake of the user's is one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a sign still gets the rest
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.raiseExceptions = False  # run.log on a full disk is no reason for tracebacks
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # hand exceptions over instead of printing them
    # libgomp's threads wait for each other by spinning, which makes a run 20 times slower as soon
    # as anything else uses the cores; a short spin costs nothing on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help.text(conf_dir()))
        return
    sys.argv[1:] = opened(_absolute_config_path(sys.argv[1:]))
    try:
        arguments = sys.argv[1:]
        handed_on.check(arguments)
        with stopping.listening(), _with_others():
            if arguments[:1] and arguments[0] in COMMANDS:
                with telling(say=_aside):
                    sys.exit(COMMANDS[arguments[0]](arguments[1:]))
            _run()
    except InputError as error:
        _stop(str(error), 2)
    except (ConfigCompositionException, HydraException) as error:
        _stop(explain(error), 2)
    except OmegaConfBaseException as error:  # such as a mandatory key left out
        _stop(str(error).splitlines()[0], 2)
    except OSError as error:  # Hydra's own files in the run folder
        told = disk.refusal(error)
        if told is None:
            raise
        _stop(told, 2)
    except Exception as error:
        told = launchers.told(error)
        if told is None:
            raise
        _stop(told, 1)


@contextmanager
def _with_others() -> Iterator[None]:
    """Of several processes that somebody has started, the first is the run, the others help it."""
    started = ranks.given()
    if started is not None:
        if started.number:
            serving.serve(started)
        team.meet(started)
    try:
        yield
    finally:
        team.disband()


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


def _aside(name: str, message: str) -> None:
    """How far a command is that prints what it finds."""
    print(f"{shown(name):<11} {shown(message)}", file=sys.stderr)


def _stop(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        print(f"spice: {shown(line)}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
