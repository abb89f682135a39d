"""``scale=``: what a scale sets is what it says, for every selector and every table."""

from __future__ import annotations

from pathlib import Path

import pytest
from compose import composed

from experiments.paper.published import BENCHMARKS
from spice.cli.explain import conf_dir
from spice.pipeline.jobs import listed

PUBLISHED = {  # METHODS 1.3, 1.5: what the paper states
    "lora.r": 16,
    "lora.alpha": 32,
    "lora.dropout": 0.05,
    "budget": 0.1,
    "selector.penalty": 0.1,
    "schedule.pool_size": 120,
    "schedule.refresh_every": 10,
    "finetune.epochs": 3,
    "finetune.learning_rate": 5e-5,
    "finetune.decay": "cosine",
    "finetune.batch_size": 512,
    "gradients.reduction": "mean",
    "selector.scale": "raw",
}
MODELS = {"qwen2_7b": (28, 3584), "llama2_7b": (32, 4096)}
SELECTORS = sorted(path.stem for path in (conf_dir() / "selector").glob("*.yaml"))
TABLES = sorted(
    path.stem for path in (conf_dir() / "experiment").glob("*.yaml") if path.stem != "demo"
)


@pytest.mark.parametrize("model", MODELS)
def test_the_paper_scale_is_the_published_setting(model: str) -> None:
    config = composed("scale=paper", "schedule=pools", f"model={model}")
    for key, value in PUBLISHED.items():
        node = config
        for part in key.split("."):
            node = node[part]
        assert node == value, key
    shape = config.model.architecture
    assert (shape.num_hidden_layers, shape.hidden_size) == MODELS[model]
    assert sum(part.rows for part in config.data.parts.values()) == 97_500
    assert set(config.benchmarks.tasks) == set(BENCHMARKS)
    assert not any("sandbox" in str(value) for value in config.names.values())


@pytest.mark.parametrize("scale", ["sandbox", "small", "paper"])
@pytest.mark.parametrize("selector", ["full", "spice", "lead", "less", "random_within_sources"])
def test_a_scale_takes_every_kind_of_selector(
    scale: str, selector: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SPICE_REAL_DATA", str(tmp_path))
    config = composed(f"scale={scale}", f"selector={selector}")
    assert config.names.scale == scale
    assert (config.schedule._target_.split(".")[-1] == "Rounds") == (selector == "lead")


@pytest.mark.parametrize("table", TABLES)
def test_a_table_lists_its_jobs_once_and_in_a_folder_of_its_scale(table: str) -> None:
    config = composed(f"experiment={table}", "scale=paper")
    jobs = listed(config.hydra.sweeper.params, config.hydra.overrides.task)
    assert len({tuple(sorted(job)) for job in jobs}) == len(jobs)
    assert config.hydra.sweep.dir == f"multirun/{table}-paper"
    for job in jobs:
        for override in job:
            name, _, value = override.partition("=")
            assert name != "selector" or value in SELECTORS
