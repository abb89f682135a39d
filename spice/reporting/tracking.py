"""W&B and CSV: the one place that talks to experiment trackers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MaxLen, MinLen
from pydantic import Field, Strict

from spice.errors import InputError
from spice.evaluation.environment import environment
from spice.storage.files import publish
from spice.values import Name, Told, component

PATIENCE = 30.0  # seconds in which W&B's server has to answer; its client would try for 90
LONGEST = 128  # characters of a name that W&B takes
#: what W&B itself would refuse once the run has begun
Project = Annotated[
    str,
    Field(pattern=r"^[^/\\#?%:]{1,128}$"),
    Told("must be 1 to 128 characters, none of them / \\ # ? % :"),
]
Group = Annotated[str, MinLen(1), MaxLen(128), Told("must be 1 to 128 characters")]
Tag = Annotated[str, MinLen(1), MaxLen(64)]
Tags = Annotated[
    tuple[Tag, ...], Strict(False), Told("must be a list of tags, each of 1 to 64 characters")
]


@component
class Tracker:
    """What stands behind ``logger=``.

    ``wandb`` is offline, online or disabled; curves go to ``logs/metrics.csv`` in any case. Runs of
    one multirun share a group, ``auto`` naming it after the multirun's folder. A key for W&B is
    read by W&B itself from its own places (the environment or its login file), never from the
    configuration.
    """

    wandb: Literal["offline", "online", "disabled"]
    project: Project
    entity: Name | None
    group: Group | None
    tags: Tags = ()

    @contextmanager
    def run(
        self, config: Mapping[str, Any], name: str, sweep: str | None, folder: Path
    ) -> Iterator[TrackedRun]:
        """One tracked run, with its files under ``folder``; ``sweep`` names its multirun.

        Raises:
            InputError: W&B refuses the run.
        """
        if self.wandb == "disabled":
            yield TrackedRun(folder, None)
            return
        import wandb

        home = folder / "wandb"
        home.mkdir(exist_ok=True)
        with environment(WANDB_DATA_DIR=str(home), WANDB_CACHE_DIR=str(home / "cache")):
            try:
                started = wandb.init(
                    project=self.project,
                    entity=self.entity,
                    group=self._group(sweep),
                    tags=list(self.tags),
                    name=name[:LONGEST],
                    id=identity(home / "id"),
                    resume="allow",
                    config=dict(config),
                    dir=str(folder),
                    mode=self.wandb,
                    settings=wandb.Settings(silent=True, console="off", init_timeout=PATIENCE),
                    reinit="finish_previous",
                )
            except (wandb.Error, ValueError) as error:
                raise InputError(self._refused(error)) from error
            try:
                yield TrackedRun(folder, started)
            except BaseException:
                started.finish(exit_code=1)
                raise
            started.finish()

    def _group(self, sweep: str | None) -> str | None:
        """Its multirun's folder, or its end where it is longer than W&B allows."""
        if self.group == "auto":
            return sweep[-LONGEST:] if sweep else None
        return self.group

    def _refused(self, error: Exception) -> str:
        """What W&B says, and the settings that it can be about."""
        why = next(iter(str(error).splitlines()), type(error).__name__)
        if "key" in why.lower():
            mend = "set WANDB_API_KEY to a key of your account"
        else:
            mend = "see to logger.project and logger.entity, and that its server can be reached"
        return (
            f"logger.wandb={self.wandb}: W&B refuses the run ({why}); {mend}, or take "
            "logger.wandb=offline"
        )


def identity(path: Path) -> str:
    """By which W&B knows the run, kept in its folder: taken up again it is the same run there."""
    if not path.is_file():
        made = secrets.token_hex(4)
        publish(path, lambda partial: partial.write_text(made, encoding="utf-8"))
    return path.read_text(encoding="utf-8")


@dataclass
class TrackedRun:
    """Handles of one run: ``wandb`` is None where it is disabled."""

    folder: Path
    wandb: Any

    def lightning_loggers(self) -> list[Any]:
        """Loggers for Lightning's training curves."""
        from pytorch_lightning.loggers import CSVLogger, WandbLogger

        curves = self.folder / "logs" / "metrics.csv"
        if curves.is_file():  # of an interrupted run, and Lightning would delete it
            earlier = len(list(curves.parent.glob("metrics-*.csv")))
            curves.replace(curves.with_name(f"metrics-{earlier + 1}.csv"))
        loggers: list[Any] = [CSVLogger(self.folder, name="logs", version="")]
        if self.wandb is not None:
            loggers.append(WandbLogger(experiment=self.wandb))
        return loggers

    def log_selection(self, selection: Mapping[str, Any], report: Mapping[str, Any]) -> None:
        """The picks as a table, the report as a summary, both files as an artifact."""
        if self.wandb is None:
            return
        import wandb

        columns: list[str | int] = ["pick", "index", "id", "gain", "conflict"]
        gains = selection["gains"] or [None] * selection["k"]
        conflicts = selection["conflicts"] or [None] * selection["k"]
        rows = zip(selection["indices"], selection["ids"], gains, conflicts, strict=True)
        data = [[t, *row] for t, row in enumerate(rows, start=1)]
        self.wandb.log({"selection/picks": wandb.Table(columns=columns, data=data)})
        self.wandb.summary["selection"] = json.loads(json.dumps(report))
        self._artifact("selection", ["selection.json", "selected.jsonl"])

    def log_results(self, results: Mapping[str, Any], figures: Sequence[Path]) -> None:
        """The scores as metrics and as a table, the figures as images."""
        if self.wandb is None:
            return
        import wandb

        columns: list[str | int] = ["benchmark", "value", "stderr", "n", "shots", "metric"]
        data = [
            [name, *(score[column] for column in columns[1:])]
            for name, score in results["scores"].items()
        ]
        scored = {f"scores/{row[0]}": row[1] for row in data if row[1] is not None}
        if results["average"] is not None:
            scored["scores/average"] = results["average"]
        images = {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures}
        table = {"scores/table": wandb.Table(columns=columns, data=data)}
        self.wandb.log({**scored, **table, **images})
        self._artifact("results", ["results.json", "config.yaml"])

    def _artifact(self, kind: str, names: Sequence[str]) -> None:
        import wandb

        artifact = wandb.Artifact(f"{kind}-{self.wandb.id}", type=kind)
        for name in names:
            artifact.add_file(str(self.folder / name))
        self.wandb.log_artifact(artifact)
