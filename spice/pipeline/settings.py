"""The keys on top of the configuration, which belong to no component."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le

from spice.data.trainer_forms import FORMS
from spice.values import (
    FilePath,
    FilePaths,
    Keys,
    NonNegative,
    OneOf,
    Seed,
    Text,
    Texts,
    Told,
    component,
)

#: the steps behind which a run may end
ENDS = ("signals", "selection", "finetune", "scores")


@component
class Limits:
    """What ``plan=true`` may come to."""

    hours: NonNegative | None
    memory_gb: NonNegative | None
    disk_gb: NonNegative | None


@component
class Export:
    """For whom the chosen rows are written, and where to."""

    to: Annotated[str, OneOf(*FORMS)] | None
    folder: FilePath | None


@component
class Card:
    """What the card says more than the run itself."""

    compare: FilePaths


@component
class Names:
    """What was chosen, for the records; ``proxies`` and ``largest`` are what experiments compare at
    this scale."""

    selector: Text
    model: Text
    proxy: Text
    scale: Text
    proxies: Text
    largest: Text
    overrides: Texts


@component
class Settings:
    """The whole of them; ``budget`` is a share of the pool or a count."""

    budget: Annotated[
        Annotated[int, Ge(1)] | Annotated[float, Gt(0), Le(1)],
        Told("must be a share in (0, 1] or a count of at least 1"),
    ]
    seed: Seed
    until: Annotated[str, OneOf(*ENDS)] | None
    plan: bool
    limits: Annotated[Limits, Keys()]
    export: Annotated[Export, Keys()]
    card: Annotated[Card, Keys()]
    cache_dir: FilePath
    names: Annotated[Names, Keys()]
