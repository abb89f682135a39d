"""Those of the eight benchmarks that move at this size, asked of the tuned models."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from experiments.real.pool import folder as pools
from experiments.real.reading import TRAINER, Real
from experiments.real.tuning import adapter
from spice.cli.explain import conf_dir
from spice.distributed.per_rank import PerRank
from spice.evaluation.benchmarks import Suite
from spice.pipeline.steps.scores import tuned

#: items of each (sub)task, the first ones: what a core can ask of some thirty models in an hour
LIMITS = {"arc_challenge": 100, "truthfulqa": 25, "mmlu": 2, "gsm8k": 16}
#: no examples are shown: a model tuned on instructions is asked as it was tuned, by its template
SHOTS = 0
NEW_TOKENS = 160


class Scored(NamedTuple):
    """A benchmark's score of the model tuned on a method's choice, a share with its error."""

    method: str
    seed: int
    benchmark: str
    value: float
    stderr: float
    n: int


def score(study: Real, method: str, seed: int, names: Sequence[str]) -> list[Scored]:
    """Ask the model with the kept adapter, or the untuned one if there is none."""
    from spice.evaluation.evaluation import evaluate

    kept = None if method == "none" else adapter(study, method, seed)
    model = PerRank(partial(tuned, study.checkpoint, kept))
    found = []
    for name in names:
        evaluate(
            model,
            study.reading.renderer,
            suite(name),
            [name],
            max_length=study.checkpoint.context(),
            seed=0,
            on_score=lambda scored, _: found.append(scored),
            cache=study.folder / "datasets",
            trainer=TRAINER,
        )
    return [Scored(method, seed, s.benchmark, s.value or 0.0, s.stderr or 0.0, s.n) for s in found]


def suite(name: str) -> Suite:
    """The paper's benchmark of a name, with its limit and no examples."""
    overrides = ["benchmarks=paper", f"benchmarks.mirror={pools().parent / 'benchmarks'}"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=overrides)
    whole: Suite = instantiate(config.benchmarks, _convert_="all")
    one = replace(whole.tasks[name], shots=SHOTS)
    return replace(
        whole, tasks={name: one}, limit=LIMITS[name], chat=True, max_new_tokens=NEW_TOKENS
    )


def load(path: Path) -> list[Scored]:
    """The scores that are on record."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Scored(
                line["method"], int(line["seed"]), line["benchmark"], float(line["value"]),
                float(line["stderr"]), int(line["n"]),
            )
            for line in csv.DictReader(file)
        ]  # fmt: skip


def save(found: Sequence[Scored], path: Path) -> None:
    """Put them on record."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Scored._fields)
        writer.writerows((*row[:3], f"{row.value:.5f}", f"{row.stderr:.5f}", row.n)
                         for row in sorted(found))  # fmt: skip
