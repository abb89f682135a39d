"""Which rows each method chooses, of the clean pool and of the pool with broken rows in it.

Every signal is read once, off all rows and their broken twins; the two pools differ in which of
them may be chosen, and weights are made among those alone.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra import compose, initialize_config_dir

from experiments.real.reading import Real
from spice.cli.explain import conf_dir
from spice.gradients.agreement import agreement, judging_groups, nearest_example
from spice.pipeline.components import make
from spice.records import Selection, Signals
from spice.signals.reliability import Validation
from spice.submodular.kernel import Subset

K = 100  # a tenth
METHODS = {
    "uniform": ["selector=random"],
    "uniform within sources": ["selector=random", "selector.stratify=source"],
    "spice": ["selector=spice"],
    "spice unit": ["selector=spice", "selector.scale=unit"],
    "spice_consensus": ["selector=spice_consensus"],
    "spice_targeted": ["selector=spice_targeted"],
    "rds": ["selector=rds"],
    "ifd": ["selector=ifd"],
    "less": ["selector=less"],
}
DRAWN = ("uniform", "uniform within sources")  # anew for each seed; the others choose once


class Choice(NamedTuple):
    """One pick: of which pool, by which method and seed, at which place; how it is broken."""

    pool: str
    method: str
    seed: int
    place: int
    id: str
    source: str
    tokens: int
    broken: str


def selector(overrides: Sequence[str]) -> Any:
    """A selector as the command line would make it."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return make(compose("config", overrides=list(overrides)), "selector")


def choose(study: Real, method: str, pools: Sequence[str], seeds: Sequence[int]) -> list[Choice]:
    """What a method chooses of each pool."""
    chosen = selector(METHODS[method])
    signals = _signals(study, chosen)
    found = []
    for pool in pools:
        eligible = members(study, pool)
        for seed in seeds if method in DRAWN else [0]:
            picks = _select(study, chosen, signals, eligible, seed)
            found += _record(study, pool, method, seed, picks)
    return found


CLEAN = "clean"


def planted(number: int) -> str:
    """The name of a pool with broken rows in it."""
    return f"planted {number}"


def members(study: Real, pool: str) -> list[int]:
    """The rows that may be chosen: those of the pool, or with the broken in their twins' place."""
    place = {row.id: i for i, row in enumerate(study.rows)}
    kept = [row.id for row in study.parts.pool]
    if pool != CLEAN:
        twins = study.parts.plantings[int(pool.split()[1])].twin_of
        kept = [i for i in kept if i not in set(twins.values())] + list(twins)
    return [place[i] for i in kept if study.reading.examples[place[i]].supervised]


def _signals(study: Real, chosen: Any) -> Signals:
    """What a selector needs, of all rows."""
    read: dict[str, Any] = {}
    for name, signal in chosen.needs.items():
        if name == "gradients":
            read[name] = study.pool_gradients
        elif name in ("target_embeddings", "target_sources"):
            read[name] = study.built(name, signal)
        elif name == "influence":  # of the first block's rows: its warm-up is drawn among them
            found = study.built(name, signal)
            unread = np.full(len(study.rows) - len(found), np.nan, dtype=found.dtype)
            read[name] = np.concatenate([found, unread])
        elif name != "reliability":
            read[name] = study.forward(name, signal)
    lengths = np.array([example.supervised for example in study.reading.examples])
    ids, sources = [r.id for r in study.rows], [r.source for r in study.rows]
    return Signals(ids=ids, sources=sources, lengths=lengths, **read)


def _select(
    study: Real, chosen: Any, signals: Signals, eligible: list[int], seed: int
) -> Selection:
    if "reliability" not in chosen.needs:
        return chosen.select(signals, K, np.random.default_rng(seed), eligible)
    weights = _weights(study, chosen.reliability, signals, eligible)
    return chosen.select_gradients(
        signals["gradients"], signals.ids, K, eligible, weights=weights, sources=signals.sources
    )


def _weights(study: Real, kind: Any, signals: Signals, eligible: list[int]) -> np.ndarray:
    """Weights n made among the eligible rows alone; NaN elsewhere."""
    weights = np.full(len(signals), np.nan)
    own = Subset(signals["gradients"], np.array(eligible))
    if isinstance(kind, Validation):
        aims = study.gradients(study.parts.examples, "example_gradients")
        weights[eligible] = nearest_example(own, aims)
        return weights
    groups = judging_groups(
        [signals.sources[i] for i in eligible], np.ones(len(eligible), dtype=bool)
    )
    options = {name: getattr(kind, name) for name in ("share", "copies", "references", "seed")}
    names = [signals.ids[i] for i in eligible]
    found = agreement(own, groups, names=names, **options)
    print(f"untrustworthy, estimated: {found.untrustworthy_share:.1%}", flush=True)
    weights[eligible] = found.weights()
    return weights


def _record(study: Real, pool: str, method: str, seed: int, selection: Selection) -> list[Choice]:
    rows = study.rows
    way = {i: how for planting in study.parts.plantings for i, how in planting.way.items()}
    return [
        Choice(
            pool, method, seed, place, rows[i].id, rows[i].source,
            study.reading.examples[i].supervised, way.get(rows[i].id, ""),
        )
        for place, i in enumerate(selection.indices)
    ]  # fmt: skip


def load(path: Path) -> list[Choice]:
    """The choices that are on record."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Choice(**{**line, **{n: int(line[n]) for n in ("seed", "place", "tokens")}})  # type: ignore[arg-type]
            for line in csv.DictReader(file)
        ]


def save(choices: Sequence[Choice], path: Path) -> None:
    """Put the choices on record."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Choice._fields)
        writer.writerows(sorted(choices))
