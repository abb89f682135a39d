"""A base in few bits: stored by bitsandbytes, multiplied in full, and like any other from there."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from spice.data.batches import pad
from spice.data.rendering import Example
from spice.errors import InputError
from spice.gradients.collecting import factors
from spice.gradients.per_sample import per_sample_gradients
from spice.models import quantization
from spice.models.checkpoint import Checkpoint
from spice.models.lora import Lora
from spice.models.merging import merged
from spice.models.recompute import recompute_long_batches

LORA = Lora(r=4, alpha=8, dropout=0.3, targets="all-linear")
WIDE = {"hidden_size": 64, "intermediate_size": 100}  # rows that are no number of blocks, too
# Slow, for bitsandbytes is: make test-slow installs it.
KINDS = [pytest.param(bits, marks=pytest.mark.slow) for bits in ("4bit", "8bit")]


def test_without_bitsandbytes_it_is_refused_in_one_line() -> None:
    code = (
        "import sys; from importlib import util; found = util.find_spec\n"
        "util.find_spec = lambda name, *a: None if name == 'bitsandbytes' else found(name, *a)\n"
        "from spice.models.quantization import check\n"
        "from spice.errors import InputError\n"
        "try: check('4bit', 'proxy')\n"
        "except InputError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == (
        "proxy.quantization=4bit: needs bitsandbytes, which is not installed: "
        "pip install 'spice-selection[quantization]'\n"
    )


def test_other_bits_are_refused(make_checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"^quantization=2bit: must be 4bit or 8bit"):
        Checkpoint("somewhere", "float32", quantization="2bit")  # type: ignore[arg-type]


@pytest.fixture(params=KINDS)
def checkpoint(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Path]) -> Checkpoint:
    pytest.importorskip("bitsandbytes")
    folder = make_checkpoint("llama", **WIDE)
    return Checkpoint(str(folder), "float32", quantization=request.param)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    rng = np.random.default_rng(0)
    lengths = [7, 40, 3, 22, 12, 30, 5]
    rows = [rng.integers(4, 90, length).tolist() for length in lengths]
    return [Example(ids, max(len(ids) // 2, 1)) for ids in rows]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(4, 64).view(3, 20)).logits


def moved(model: PeftModel) -> PeftModel:
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def loop(model: Any, examples: list[Example]) -> torch.Tensor:
    """∂/∂(A, B) of each row's mean loss, one backward pass per row: n × d."""
    slots = [module.weight for _, module in factors(model)]
    found = []
    for e in examples:
        ids = torch.tensor(e.ids)
        out = model(input_ids=ids[None], use_cache=False).logits[0]
        loss = torch.nn.functional.cross_entropy(out[e.start - 1 : -1], ids[e.start :])
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, slots)]))
    return torch.stack(found)


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float(((ours - theirs).norm(dim=1) / theirs.norm(dim=1)).max())


def test_it_is_computed_on_this_machine(checkpoint: Checkpoint) -> None:
    checkpoint.check("model")


@pytest.mark.parametrize("adapted", [False, True], ids=["B=0", "B≠0"])
def test_a_padded_batch_gives_what_one_row_at_a_time_gives(
    checkpoint: Checkpoint, examples: list[Example], adapted: bool
) -> None:
    model = LORA.attach(checkpoint.load(), 3).eval()
    model = moved(model) if adapted else model
    rows = [*range(len(examples))]
    expected = loop(model, examples)
    batched = per_sample_gradients(model, pad(examples, rows, 0), "mean")
    alone = [per_sample_gradients(model, pad(examples, [row], 0), "mean") for row in rows]
    assert distance(batched, expected) < 1e-5
    assert distance(torch.cat(alone), expected) < 1e-5


def test_the_gradient_is_that_of_the_model_whose_weights_are_rounded(
    checkpoint: Checkpoint, make_checkpoint: Callable[..., Path], examples: list[Example]
) -> None:
    from spice.models.whole_weights import layers, whole

    few, full = checkpoint.load(), Checkpoint(checkpoint.path, "float32").load()
    names = {module: name for name, module in few.named_modules()}
    assert len(layers(few)) == 2 * 7
    for layer in layers(few):
        weight = full.get_submodule(names[layer]).weight.detach()
        rounded = whole(layer, torch.float32)
        error = float((rounded - weight).norm() / weight.norm())
        assert 0 < error < (0.12 if checkpoint.quantization == "4bit" else 0.02)
        weight.copy_(rounded)
    batch = pad(examples, [*range(len(examples))], 0)
    one, other = (
        per_sample_gradients(LORA.attach(model, 3).eval(), batch, "mean") for model in (few, full)
    )
    assert distance(one, other) < 1e-5


def test_recomputing_and_autocast_work_as_on_other_bases(
    checkpoint: Checkpoint, examples: list[Example]
) -> None:
    from spice.models.autocast import multiply_in_bfloat16

    batch = pad(examples, [*range(len(examples))], 0)
    model = moved(LORA.attach(checkpoint.load(), 3))
    expected = per_sample_gradients(model, batch, "mean")
    recompute_long_batches(model, 1)
    assert torch.equal(per_sample_gradients(model, batch, "mean"), expected)
    multiply_in_bfloat16(model)
    assert 1e-4 < distance(per_sample_gradients(model, batch, "mean"), expected) < 0.1


def test_a_row_does_not_feel_its_neighbours_outliers(checkpoint: Checkpoint) -> None:
    """bitsandbytes' own eight-bit product treats a column as its largest value asks for."""
    layer = checkpoint.load().model.layers[0].mlp.up_proj
    torch.manual_seed(0)
    calm, wild = torch.randn(1, 5, 64), 50 * torch.randn(1, 5, 64)
    alone, beside = layer(calm), layer(torch.cat([calm, wild]))[:1]
    assert torch.allclose(alone, beside, atol=1e-5)


def test_an_adapter_on_it_is_scored_beside_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    tuned = moved(LORA.attach(checkpoint.load(), seed=0))
    tuned.save_pretrained(str(tmp_path))
    found = PeftModel.from_pretrained(checkpoint.load(), str(tmp_path))
    scored = merged(found)
    assert isinstance(scored, PeftModel)
    assert torch.equal(logits(scored), logits(tuned))


def test_it_can_be_copied_and_sent_to_another_process(checkpoint: Checkpoint) -> None:
    model = checkpoint.load()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(other), logits(model))


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("kind", [None, *KINDS])
@pytest.mark.parametrize("tied", [False, True])
def test_the_bytes_told_are_those_taken(
    make_checkpoint: Callable[..., Path], family: str, kind: Any, tied: bool
) -> None:
    pytest.importorskip("bitsandbytes")
    folder = make_checkpoint(family, tie_word_embeddings=tied, **WIDE)
    checkpoint = Checkpoint(str(folder), "bfloat16", quantization=kind)
    told = quantization.weight_bytes(checkpoint.outline(), kind)
    assert told == pytest.approx(_taken(checkpoint.load()), rel=0.02)


def _taken(model: Any) -> int:
    held = {id(p): p for p in model.parameters()}
    for parameter in [*held.values()]:
        if (state := getattr(parameter, "quant_state", None)) is not None:
            held |= {id(t): t for t in (state.absmax, state.state2.absmax)}
        if (scale := getattr(parameter, "SCB", None)) is not None:
            held[id(scale)] = scale
    return sum(t.numel() * t.element_size() for t in held.values())
