"""The target, tuned on what was chosen."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from spice.distributed.per_rank import PerRank
from spice.errors import InputError
from spice.gradients import work
from spice.messages import warn
from spice.pipeline.steps.base import KeyedStep
from spice.storage.closure import code_version, library_versions
from spice.storage.files import write_json
from spice.storage.stages import digest

if TYPE_CHECKING:
    from pathlib import Path

    from spice.pipeline.plan.planned import Planned
    from spice.pipeline.plan.planner import Planner
    from spice.pipeline.run import Run
    from spice.storage.stages import Done

CODE = ("spice.training.finetune", "spice.models.tokenized", "spice.models.lora")


class FineTune(KeyedStep):
    """Sets ``adapter`` and copies it to ``adapter/``; nothing without a recipe or picks."""

    name = "finetune"

    def key(self, run: Run) -> dict[str, Any] | None:
        """What decides the adapter: the set of rows, whatever order chose it."""
        return self.key_of(run, run.selection["ids"])

    def key_of(self, run: Run, ids: Sequence[str]) -> dict[str, Any] | None:
        """The same for rows of these ids."""
        recipe = run.parts.recipe
        if recipe is None or not ids:
            return None
        return {
            **run.as_model.view,
            "rows": digest(sorted(ids)),
            "lora": dataclasses.asdict(run.parts.lora),
            "recipe": recipe.fingerprint(),
            "precision": run.parts.machine.resolved_precision(),
            "seed": run.config.seed,
            "code": code_version(*CODE),
            "versions": library_versions(*CODE),
        }

    def build(self, run: Run, folder: Path) -> None:
        """Tune.

        Raises:
            InputError: no chosen row fits the model's context, or a loss is not finite.
        """
        from spice.models.loss import NonFiniteLossError

        try:
            facts = self._tuned(run, folder)
        except NonFiniteLossError as error:
            raise InputError(error.told([run.pool.rows[row].id for row in error.rows])) from None
        write_json(folder / "facts.json", facts)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)

    def _tuned(self, run: Run, folder: Path) -> dict[str, Any]:
        from spice.training.finetune import finetune  # keeps torch out of start-up

        assert run.parts.recipe is not None
        machine, seed = run.parts.machine, run.config.seed
        return finetune(
            PerRank(partial(run.parts.lora.put_on, run.as_model.checkpoint, seed)),
            run.parts.recipe,
            run.as_model.examples,
            self._rows(run),
            folder=folder,
            pad_id=run.as_model.pad_id,
            seed=seed,
            trainer={
                **machine.trainer_arguments(),
                "precision": machine.resolved_precision(),
                "logger": run.tracked.lightning_loggers(),
            },
        )

    def _rows(self, run: Run) -> list[int]:
        """The chosen rows that teach the target something, in the order of their ids."""
        chosen = sorted(run.selection["indices"], key=lambda row: run.pool.rows[row].id)
        taught = run.as_model.lengths
        rows = [row for row in chosen if taught[row]]
        if not rows:
            raise InputError(
                "none of the chosen rows fits the model's context; nothing to train on"
            )
        if len(rows) < len(chosen):
            lost = len(chosen) - len(rows)
            warn(self.name, f"{lost} chosen rows do not fit the model's context: left out")
        return rows

    def load(self, run: Run, done: Done) -> None:
        """Copy the adapter."""
        run.adapter = done
        shutil.copytree(done.folder / "adapter", run.folder / "adapter", dirs_exist_ok=True)

    def plan(self, run: Run, planner: Planner) -> Iterator[Planned]:
        """The recipe's passes over as many rows as are chosen, or asked for."""
        key = self.key_of(run, planner.ids)
        if key is None or run.parts.recipe is None:
            return
        planner.adapter = digest(key)
        if run.stages.has(self.name, key):
            yield planner.there(self.name, key)
            return
        count = run.k if planner.chosen is None else len(planner.chosen)
        training = work.training(run.as_model, run.parts.recipe, count)
        yield planner.of(self.name, digest(key), [training], planner.adapter_bytes(training))
