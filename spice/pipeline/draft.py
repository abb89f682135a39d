"""A configuration on its way to a run: what it names is made and read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice.data import kept_rows
from spice.errors import InputError
from spice.messages import say
from spice.models.autocast import slow_here
from spice.models.lora import Lora, without
from spice.models.quantization import weight_bytes
from spice.models.tokenized import renderer
from spice.pipeline.budget import resolve_budget
from spice.pipeline.components import Components, make, make_settings
from spice.reporting.card import other_selections
from spice.storage.stages import Stages

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from peft import PeftModel
    from transformers import PreTrainedModel

    from spice.data.pool import Pool
    from spice.data.rendering import Example, Renderer
    from spice.gradients.extraction import Extraction
    from spice.models.checkpoint import Checkpoint
    from spice.pipeline.settings import Settings
    from spice.records import Row
    from spice.schedules.base import Schedule
    from spice.selectors.base import Method


class Draft:
    """What a run is begun with.

    What cannot be had raises the same InputError whenever it is asked for. ``folder`` is the run's,
    and with ``fetch`` checkpoints are downloaded where they are not on this machine.
    """

    def __init__(self, config: DictConfig, folder: Path, fetch: bool = True) -> None:
        self.config = config
        self.folder = folder
        self.fetch = fetch
        self._made: dict[str, Any] = {}

    def group(self, name: str) -> Any:
        """A group's component."""
        return self._once(name, lambda: make(self.config, name))

    def wants(self, name: str) -> bool:
        """Whether a run makes use of a group; where that cannot be told, it does."""
        try:
            if name == "validation":
                return self.group("selector").aims
            if name == "proxy":
                return self.group("selector").reads_pool
            if name == "model":
                return bool(self.group("finetune") or self.group("benchmarks").names)
        except InputError:
            pass
        return True

    @property
    def parts(self) -> Components:
        """All components, none of which is refused."""
        return self._once("components", lambda: Components.of(self.config, self.group))

    @property
    def settings(self) -> Settings:
        """The keys on top."""
        return self._once("settings", lambda: make_settings(self.config))

    @property
    def cache(self) -> Path:
        """Where finished stages are kept."""
        return Path(self.settings.cache_dir).expanduser()

    @property
    def pool(self) -> Pool:
        """The rows to choose from; a check leaves nothing behind, and holds them in memory."""
        return self._once("the pool", self._pool)

    @property
    def stages(self) -> Stages:
        """Finished stages of all runs, in the cache."""
        return self._once("the stages", lambda: Stages(self.cache, say))

    def _pool(self) -> Pool:
        def keep(key: dict[str, Any], build: Callable[[Path], None]) -> Path:
            return self.stages.run("rows", key, build).folder

        data = self.group("data")
        return kept_rows.read(data, keep, self.cache) if self.fetch else data.load()

    @property
    def k(self) -> int:
        """How many of them are to be chosen."""
        return resolve_budget(self.settings.budget, len(self.pool.rows))

    @property
    def others(self) -> dict[str, list[str]]:
        """Selections that the card compares with."""
        return other_selections(self.settings.card.compare)

    @property
    def targets(self) -> list[Row]:
        """The validation examples, if any are aimed at; what is prepared for them is not kept."""
        return self._once("the examples", self._targets)

    def _targets(self) -> list[Row]:
        from tempfile import TemporaryDirectory

        if not self.group("selector").aims:
            return []
        with TemporaryDirectory() as cache:
            return self.group("validation").rows(self.group("benchmarks"), Path(cache))

    @property
    def readers(self) -> list[str]:
        """The roles of the checkpoints that read the pool; proxies beside the proxy by folder."""
        roles = [role for role in ("proxy", "model") if self.wants(role)]
        try:
            return [*roles, *self._more()]
        except InputError:
            return roles

    def checkpoint(self, role: str) -> Checkpoint:
        """The one of a role, whose files are all there."""
        return self._once(f"checked {role}", lambda: self._checkpoint(role))

    def renderer(self, role: str) -> Renderer | None:
        """How a checkpoint reads rows; None if its files are not here and must not be fetched."""
        return self._once(f"renderer of {self.checkpoint(role)}", lambda: self._renderer(role))

    def examples(self, role: str, rows: int) -> list[Example] | None:
        """Some of the pool's rows as a checkpoint reads them; None as above."""
        return self._once(
            f"{rows} rows for {self.checkpoint(role)}", lambda: self._examples(role, rows)
        )

    def _examples(self, role: str, rows: int) -> list[Example] | None:
        found = self.renderer(role)
        return (
            None
            if found is None
            else found.encode(self.pool.rows[:: -(-len(self.pool.rows) // rows)])
        )

    def bare(self, role: str) -> PreTrainedModel | None:
        """The model without its weights, none of which is missing; None as above."""
        return self._once(f"outline of {self.checkpoint(role)}", lambda: self._outline(role))

    def adapted(self, role: str) -> list[PeftModel]:
        """A model without its weights for each adapter that is put on it; none as above."""
        of = self.checkpoint(role)
        found = [
            self._once(f"{lora} on {of}", partial(self._on, lora, role))
            for lora in self.adapters(role)
        ]
        return [model for model in found if model is not None]

    def notes(self, role: str) -> list[str]:
        """What is to be said of the adapters on a model and how it is read, each once."""
        told = [without(model) for model in self.adapted(role)]
        if role == "proxy" and self.adapters(role) and self.group("gradients").autocast:
            told.append(slow_here())
        return list(dict.fromkeys(note for note in told if note))

    def weight_bytes(self, role: str) -> int | None:
        """What a model's weights take; None where nothing tells its shape."""
        checkpoint = self.checkpoint(role)
        outline = self.bare(role)
        if outline is None and checkpoint.architecture:
            outline = checkpoint.skeleton()
        return None if outline is None else weight_bytes(outline, checkpoint.quantization)

    def adapters(self, role: str) -> list[Lora]:
        """Those that are put on the model of a role."""
        if role == "model":
            return [self.group("lora")] if self.group("finetune") else []
        if role != "proxy":
            return []
        try:
            selector, schedule = self.group("selector"), self.group("schedule")
        except InputError:
            return [self.group("lora")]  # what most of them put on it
        return adapters(selector, schedule, self.group("gradients"))

    def _outline(self, role: str) -> PreTrainedModel | None:
        checkpoint = self.checkpoint(role)
        return checkpoint.outline() if self.fetch or checkpoint.at_hand() else None

    def _on(self, lora: Lora, role: str) -> PeftModel | None:
        outline = self._outline(role)
        return None if outline is None else lora.attach(outline, seed=0)

    def _more(self) -> dict[str, Checkpoint]:
        signals = self.group("selector").needs.values()
        return {Path(found.path).name: found for signal in signals for found in signal.readers()}

    def _checkpoint(self, role: str) -> Checkpoint:
        if role in ("proxy", "model"):
            checkpoint, key = self.group(role), role
        else:
            checkpoint, key = self._more()[role], "selector.more_proxies"
        checkpoint.check(key)
        return checkpoint

    def _renderer(self, role: str) -> Renderer | None:
        checkpoint = self.checkpoint(role)
        if not (self.fetch or checkpoint.at_hand()):
            return None
        return renderer(checkpoint, self.group("template"))

    def _once(self, name: str, made: Callable[[], Any]) -> Any:
        if name not in self._made:
            try:
                self._made[name] = made()
            except InputError as error:
                self._made[name] = error
        if isinstance(found := self._made[name], InputError):
            raise found
        return found


def adapters(selector: Method, schedule: Schedule, extraction: Extraction) -> list[Lora]:
    """Those that choosing puts on the proxy, each once."""
    signals = list(schedule.needs(selector).values())
    of = [schedule.fingerprint(extraction), *(s.fingerprint(extraction) for s in signals)]
    found = [Lora(**options["lora"]) for options in of if options and "lora" in options]
    if any(signal.of_gradients for signal in signals):
        found.append(extraction.lora)
    return list({str(lora): lora for lora in found}.values())
