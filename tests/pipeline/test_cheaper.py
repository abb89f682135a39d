"""Whole runs whose gradients, or whose models, are cheaper: done, and kept apart from others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]


@pytest.mark.slow
def test_each_way_has_gradients_of_its_own(start: Run) -> None:
    ways = [
        [],
        ["gradients.lora.layers=1"],
        ["gradients.autocast=bfloat16"],
    ]
    runs = [start("finetune=none", *way) for way in ways]
    assert len({run["keys"]["gradients"] for run in runs}) == len(ways)
    again = start("finetune=none", *ways[1])
    assert again["keys"] == runs[1]["keys"]


def test_layers_of_the_gradients_leave_the_target_s_adapter_as_it_is(start: Run) -> None:
    one, other = start("selector=full"), start("selector=full", "gradients.lora.layers=1")
    assert one["keys"]["finetune"] == other["keys"]["finetune"]
    both = start("selector=full", "lora.layers=1")
    assert both["keys"]["finetune"] != one["keys"]["finetune"]


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_a_run_on_few_bits_chooses_tunes_and_is_planned(
    start: Run, tmp_path: Path, bits: str
) -> None:
    pytest.importorskip("bitsandbytes")
    few = [f"proxy.quantization={bits}", f"model.quantization={bits}"]
    start("plan=true", *few)
    plain, run, again = start(), start(*few), start(*few)
    assert run["keys"] == again["keys"]
    for stage in ("gradients", "finetune"):
        assert run["keys"][stage] != plain["keys"][stage]
    assert (tmp_path / "run2/adapter/adapter_model.safetensors").is_file()
