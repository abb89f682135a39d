"""Every yaml composes and makes what it names; the 7B models from their configuration alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from compose import composed
from halves import slow_but
from hydra.utils import instantiate
from omegaconf import OmegaConf

from spice.cli.explain import choices, conf_dir
from spice.errors import InputError
from spice.gradients import live
from spice.library import DEFAULTS
from spice.pipeline.components import Components

GROUPS = sorted(
    path.name for path in conf_dir().iterdir() if path.is_dir() and path.name != "hydra"
)
OPTIONS = [(group, option) for group in GROUPS for option in choices(group)]


def overrides(group: str, option: str, run_folder: Path) -> list[str]:
    """An option with what it cannot be without."""
    more = {
        "local": f"{group}.path=somewhere",
        "jsonl": f"{group}.paths=[pool.jsonl]",
        "hub": "data.name=owner/name",
        "random_matched": f"selector.like={run_folder}",
    }
    return [f"{group}={option}", *([more[option]] if option in more else [])]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_instantiates(group: str, option: str, tmp_path: Path) -> None:
    (tmp_path / "selection.json").write_text('{"ids": []}')
    config = composed(*overrides(group, option, tmp_path))
    if group in {"experiment", "scale"}:
        return  # a difference to all the others, which are instantiated on their own
    made = instantiate(config[group], _convert_="all")
    assert type(made).__module__.startswith("spice") or (group, option) == ("finetune", "none")


@pytest.mark.parametrize(
    "option", [path.stem for path in (conf_dir() / "benchmarks/task").iterdir()]
)
def test_every_benchmark_instantiates(option: str) -> None:
    name = OmegaConf.load(conf_dir() / f"benchmarks/task/{option}.yaml").name
    config = composed("benchmarks=none", f"+benchmarks/task@benchmarks.tasks.{name}={option}")
    suite = instantiate(config.benchmarks, _convert_="all")
    suite.check()
    assert suite.names == [name]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama2_7b", 6_738_415_616),
        ("llama2_70b", 68_976_648_192),
        ("qwen2_7b", 7_615_616_512),
        ("qwen2_0_5b", 494_032_768),
        ("qwen2_1_5b", 1_543_714_304),
        ("smollm2_135m", 134_515_008),
    ],
)
@pytest.mark.parametrize("role", slow_but(["model", "proxy"], ["model"]))
def test_published_models_are_built_from_their_configuration_alone(
    name: str, parameters: int, role: str
) -> None:
    config = composed(f"{role}={name}")
    skeleton = instantiate(config[role], _convert_="all").skeleton()
    assert sum(p.numel() for p in skeleton.parameters()) == parameters
    tuned = instantiate(config.lora, _convert_="all").attach(skeleton, seed=0)
    assert tuned.peft_config["default"].r == 16


def test_library_and_configuration_have_the_same_defaults() -> None:
    for name, value in composed().selector.items():
        # Weights come as numbers, and the library knows no sources.
        if name not in {"_target_", "reliability", "stratify", "quotas"}:
            assert DEFAULTS[name] == value, name


def test_the_library_reads_gradients_by_the_same_defaults() -> None:
    config = composed()
    template, gradients = (
        OmegaConf.to_container(config[group], resolve=True) for group in ("template", "gradients")
    )
    of_files = {"_target_", "on_bad_row", "dtype", "shard_rows"}  # which the library has none of
    told = {**template, **gradients}
    told["lora"] = {name: v for name, v in told["lora"].items() if name != "_target_"}
    assert {name: v for name, v in told.items() if name not in of_files} == live.DEFAULTS
    assert live.DEFAULTS.keys() == live.Options.__annotations__.keys()
    assert live.DEFAULTS["lora"].keys() == live.LoraOptions.__annotations__.keys()


def test_the_contract_s_groups_and_keys_are_there() -> None:
    config = composed()
    groups = "data model proxy gradients selector schedule finetune benchmarks trainer logger"
    for key in [*groups.split(), "budget", "seed"]:
        assert key in config, key
    assert (config.selector.penalty, config.selector.alpha) == (0.1, 1.0)
    assert config.budget == 0.1
    assert (config.lora.r, config.lora.alpha, config.lora.dropout) == (16, 32, 0.05)
    recipe = composed("finetune=paper").finetune
    assert (recipe.epochs, recipe.learning_rate) == (3, 5e-5)


def test_the_paper_s_mix_sums_to_its_97500_rows() -> None:
    parts = composed("data=paper_pool").data.parts
    assert sum(part.rows for part in parts.values()) == 97_500


def test_every_yaml_says_what_it_is_on_its_first_line() -> None:
    for path in Path(conf_dir()).rglob("*.yaml"):
        assert path.read_text().startswith("# "), path


@pytest.mark.parametrize("key", ["selector._target_", "lora._target_", "data._target_"])
def test_a_configuration_of_another_version_meets_one_clear_line(key: str) -> None:
    config = composed()
    OmegaConf.update(config, key, "spice.models.Lora")  # where it was before the rooms
    with pytest.raises(InputError) as refused:
        Components.of(config)
    assert str(refused.value).startswith(f"{key}=spice.models.Lora: no such class")
    assert "another version of spice" in str(refused.value)
    assert "\n" not in str(refused.value)
