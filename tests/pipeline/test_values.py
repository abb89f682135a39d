"""Every key of the configuration holds what it may hold, or is refused by its full name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from compose import job
from omegaconf import DictConfig, OmegaConf

from spice.errors import InputError
from spice.pipeline.components import Components

HOSTILE: list[Any] = [
    True, False, "abc", -1, 0, 1.5, math.nan, math.inf, None, [], {}, 10**30, "no", "",
]  # fmt: skip
COMPOSITIONS = {
    "default": (),
    "spice_consensus": ("selector=spice_consensus", "data=jsonl", "data.paths=[no.jsonl]"),
    "spice_targeted": ("selector=spice_targeted", "finetune=none", "template=plain"),
    "less": ("selector=less", "data=hub", "data.name=org/name", "finetune=paper"),
    "lead": ("selector=lead", "data=paper_pool", "benchmarks=paper"),
    "ifd": ("selector=ifd_experienced", "model=llama2_7b", "proxy=qwen2_0_5b"),
    "selectit": ("selector=selectit", "model=local", "model.path=somewhere"),
    "pools": ("schedule=pools", "trainer=cpu", "logger=csv"),
    "tsds": ("selector=tsds", "validation=jsonl", "validation.paths=[no.jsonl]"),
    "dpp": ("selector=dpp", "benchmarks=none"),
    "fishersft": ("selector=fishersft", "benchmarks=none"),
    "random": ("selector=random", "benchmarks=none"),
    "random_matched": ("selector=random_matched", "selector.like=no/run", "benchmarks=none"),
}
#: what holds in any composition is tried in the first alone
SHARED = ("benchmarks", "gradients", "trainer", "logger", "lora", "template", "names", "limits")
#: keys whose files, folders or other keys are told of, once their values are right
ASKED_LATER = ("no such file", "no selection", "no such folder", "has no use for", "needs it")


@pytest.fixture(scope="module")
def default() -> DictConfig:
    return job()


@pytest.fixture
def config(default: DictConfig) -> DictConfig:
    return default.copy()


def leaves(config: DictConfig, path: str = "") -> Iterator[str]:
    """The keys that hold a value, but those that refer to another."""
    for name in config:
        key = f"{path}.{name}" if path else str(name)
        if OmegaConf.is_interpolation(config, name) and not key.startswith(("names", "cache_dir")):
            continue
        held = config._get_node(name)
        if isinstance(held, DictConfig) and len(held) and not held._is_none():
            yield from leaves(held, key)
        else:
            yield key


def refused(config: DictConfig) -> list[str]:
    try:
        Components.of(config)
    except InputError as error:
        return str(error).splitlines()
    return []


def expected(default: Any, value: Any) -> bool | None:
    """Whether ``value`` must be taken in the place of ``default``; None where either may be."""
    if isinstance(default, bool):
        return isinstance(value, bool)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, int | float):
        if not number or not math.isfinite(value):
            return False if value is not None and value not in ("abc", "no") else None
        return False if isinstance(default, int) and isinstance(value, float) else None
    if isinstance(default, str):
        return False if isinstance(value, bool | list | dict) else None
    return None


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_every_key_takes_a_value_or_names_itself(name: str) -> None:
    """All keys get the same value at once: each must answer for itself, in a line of its own."""
    config = job(*COMPOSITIONS[name])
    keys = [k for k in leaves(config) if name == "default" or not k.startswith(SHARED)]
    # an architecture is written in transformers' own keys
    keys = [k for k in keys if not k.endswith("_target_") and ".architecture" not in k]
    assert len(keys) > 10
    for value in HOSTILE:
        changed = config.copy()
        for key in keys:
            OmegaConf.update(changed, key, value, merge=False)
        lines = refused(changed)
        named = {next((k for k in keys if told_of(line, k)), line) for line in lines}
        strange = named - set(keys)
        assert not [line for line in strange if not any(w in line for w in ASKED_LATER)], value
        for key in keys:
            wanted = expected(OmegaConf.select(config, key), value)
            assert wanted is None or wanted == (key not in named), (key, value, lines)


def told_of(line: str, key: str) -> bool:
    return line.startswith((f"{key}=", f"{key}:", f"{key} is missing"))


@pytest.mark.parametrize("value", HOSTILE, ids=str)
def test_every_group_in_the_place_of_its_keys_is_named(value: Any, config: DictConfig) -> None:
    for key in ("lora", "gradients", "limits", "card", "names", "trainer", "data.kinds"):
        changed = config.copy()
        OmegaConf.update(changed, key, value, merge=False)
        lines = refused(changed)
        assert lines or value is None or (key, value) == ("data.kinds", {})
        assert all(line.startswith((f"{key}=", f"{key}.", f"{key}:")) for line in lines), lines


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("seed=-1",), "seed=-1: must be a whole number from 0 to 4294967295"),
        (("seed=1.5",), "seed=1.5: must be a whole number from 0 to 4294967295"),
        (("seed=abc",), "seed=abc: must be a whole number from 0 to 4294967295"),
        (("plan=no",), "plan=no: must be true or false"),
        (
            ("benchmarks.allow_code_execution=off",),
            "benchmarks.allow_code_execution=off: must be true or false",
        ),
        (("schedule=pools", "schedule.train_proxy=0"), "schedule.train_proxy=0: must be true"),
        (("data.seed=null",), "data.seed=null: must be a whole number"),
        ((f"data.size={10**30}",), "data.size=1000000000000000000000000000000: must be a whole"),
        (("finetune.learning_rate=inf",), "finetune.learning_rate=inf: must be a finite number"),
        (("benchmarks.only=[]",), "benchmarks.only=[]: must be a name or a list of names"),
        (("benchmarks.only=5",), "benchmarks.only=5: must be a name or a list of names"),
        (("+penalty=3",), "penalty: no such key. Did you mean 'selector.penalty'?"),
        (("+selector.penalti=3",), "selector.penalti: no such key. Did you mean 'penalty'?"),
        (("card.compare=run",), "card.compare=run: must be a list of paths"),
        (("cache_dir=null",), "cache_dir=null: must be a path"),
        (("logger.tags=[1]",), "logger.tags=[1]: must be a list of tags"),
        (("lora.r=0",), "lora.r=0: must be a whole number of at least 1"),  # gradients share it
        (("selector=less", "selector.recipe=abc"), "selector.recipe=abc: must hold the keys of"),
        (
            ("selector=lead", "selector.warmup.recipe.epochs=0"),
            "selector.warmup.recipe.epochs=0: must be a whole number of at least 1",
        ),
        (("selector=random", "proxy.dtype=int4"), "proxy.dtype=int4: must be float32, bfloat16"),
        (("validation=jsonl", "validation.paths=x", "selector=less"), "validation.paths=x: must"),
        (("selector=less", "validation=jsonl"), "validation.paths is missing; give validation"),
    ],
)
def test_one_line_with_the_full_key(overrides: tuple[str, ...], said: str) -> None:
    [line] = refused(job(*overrides))
    assert line.startswith(said)


def test_all_that_is_wrong_is_said_at_once() -> None:
    lines = refused(job("seed=-1", "lora.r=0", "selector.alpha=0", "budget=2.5"))
    assert sorted(line.split("=")[0] for line in lines) == [
        "budget", "lora.r", "seed", "selector.alpha",
    ]  # fmt: skip


# -- whose code a configuration may name -----------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "pandas.read_pickle",
        "builtins.eval",
        "spice.storage.files.write_json",
        "spice.models.lora.Lora",
        "spice.cli.explain.conf_dir",
        "spice",
        "",
        "spice.selectors.spice.",
        "spice..Spice",
    ],
)
@pytest.mark.parametrize("key", ["selector._target_", "finetune._target_", "model._target_"])
def test_only_what_a_group_expects_is_made(key: str, target: str, config: DictConfig) -> None:
    OmegaConf.update(config, key, target)
    [line] = refused(config)
    assert line.startswith(f"{key}={target}: ")


@pytest.mark.parametrize("consent", ["", "pickles", "pandas"])
def test_consent_to_a_package_is_none_to_its_functions(
    consent: str, monkeypatch: pytest.MonkeyPatch, config: DictConfig
) -> None:
    monkeypatch.setenv("SPICE_PLUGINS", consent)
    OmegaConf.update(config, "data", {"_target_": "pandas.read_pickle", "path": "x"}, merge=False)
    [line] = refused(config)
    said = "must name a Data" if consent == "pandas" else "SPICE_PLUGINS=pandas"
    assert line.startswith("data._target_=pandas.read_pickle: ")
    assert said in line


def test_parts_of_a_component_are_components_too() -> None:
    config = job("selector=less")
    OmegaConf.update(config, "selector.recipe._target_", "os.getcwd")
    [line] = refused(config)
    assert line.startswith("selector.recipe._target_=os.getcwd: only classes of spice")
