"""``spice.gradients``: the command line's numbers, off a model that is left as it was."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from compose import begun
from hypothesis import settings
from hypothesis import strategies as st
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import spice
from spice.errors import InputError
from spice.gradients.agreement import directions
from spice.sandbox import checkpoint

ROWS: list[dict[str, Any]] = [
    {"instruction": "Say red.", "input": "", "response": "red"},
    {"instruction": "Say", "input": "green", "response": "green, " * 5},
    {"instruction": "And?", "response": "no", "history": [["hi", "yes"]], "system": "Be short."},
    {"prompt": "Count to three", "completion": "1 2 3"},
    {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "not this", "weight": 0},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": "but this"},
        ]
    },
]


@pytest.fixture(scope="module")
def tiny(make_checkpoint: Callable[..., Path]) -> tuple[Any, Any]:
    """A model of two layers without adapters, and its tokenizer."""
    folder = make_checkpoint("llama")
    return (
        AutoModelForCausalLM.from_pretrained(folder, dtype="float32"),
        PreTrainedTokenizerFast.from_pretrained(folder),
    )


def adapted(model: Any, *, zero: bool = False, **options: Any) -> Any:
    """A copy of the model with an adapter of its own, as in the middle of a training."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        config = LoraConfig(
            r=4, target_modules=["q_proj", "down_proj"], lora_dropout=0.5, **options
        )
        found = get_peft_model(copy.deepcopy(model), config)
        if not zero:
            for name, weight in found.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(weight, std=0.1)
    return found.train()


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """To float32's rounding of sums, of each row's length."""
    return bool(np.all(np.linalg.norm(a - b, axis=1) <= 1e-5 * np.linalg.norm(b, axis=1)))


@pytest.mark.parametrize(
    ("options", "overrides"),
    [
        ({}, []),
        (
            {"reduction": "sum", "projection": 64, "seed": 3, "max_tokens": 40, "mode": "plain"},
            ["gradients.reduction=sum", "gradients.projection=64", "gradients.seed=3",
             "template.max_tokens=40", "template.mode=plain"],
        ),
        (
            {"lora": {"r": 4, "layers": 1}, "batch_size": 7, "autocast": "bfloat16"},
            ["gradients.lora.r=4", "gradients.lora.layers=1", "gradients.batch_size=7",
             "gradients.autocast=bfloat16"],
        ),
    ],
)  # fmt: skip
def test_they_are_what_the_command_line_stores_to_the_bit(
    options: dict[str, Any], overrides: list[str], tmp_path: Path
) -> None:
    run = begun(
        tmp_path / "run", tmp_path / "cache", "selector=fisher", "data.size=60", "finetune=none",
        "benchmarks=none", "logger=csv", "trainer.progress=false", "trainer.accelerator=cpu",
        *overrides,
    )  # fmt: skip
    assert run.keyed is not None
    stored = np.asarray(run.keyed.read()["gradients"][:])
    folder = checkpoint("proxy")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    found = spice.gradients(model, tokenizer, run.pool.rows, **options)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, stored)


@settings(max_examples=15)
@hypothesis.given(st.permutations(range(len(ROWS))), st.integers(1, 6), st.integers(1, 400))
def test_neither_batches_nor_the_order_of_rows_matter(
    tiny: tuple[Any, Any], order: list[int], batch_size: int, batch_tokens: int
) -> None:
    expected = spice.gradients(*tiny, ROWS)
    found = spice.gradients(
        *tiny, [ROWS[i] for i in order], batch_size=batch_size, batch_tokens=batch_tokens
    )
    assert close(found, expected[order])


def test_an_adapter_in_training_is_read_at_where_it_is(tiny: tuple[Any, Any]) -> None:
    """By autograd's own gradient of each row's loss, over A and B."""
    model, tokenizer = tiny
    peft = adapted(model)
    found = spice.gradients(peft, tokenizer, ROWS[:1])
    text = "### Instruction:\nSay red.\n\n### Response:\n"
    ids = [tokenizer.bos_token_id, *tokenizer(text + "red", add_special_tokens=False)["input_ids"],
           tokenizer.eos_token_id]  # fmt: skip
    labels = [-100] * (len(ids) - 4) + ids[-4:]
    peft.eval()
    loss = peft(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
    weights = [w for name, w in peft.named_parameters() if "lora_" in name]
    alone = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]).numpy()
    assert close(found, alone[None])


def test_only_active_adapters_are_read(tiny: tuple[Any, Any]) -> None:
    one = adapted(tiny[0])
    expected = spice.gradients(one, tiny[1], ROWS)
    one.add_adapter("other", LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    np.testing.assert_array_equal(spice.gradients(one, tiny[1], ROWS), expected)
    one.set_adapter("other")
    assert spice.gradients(one, tiny[1], ROWS).shape[1] != expected.shape[1]


def test_a_fresh_adapter_is_read_at_its_factors_b(tiny: tuple[Any, Any]) -> None:
    fresh = adapted(tiny[0], zero=True)
    d = sum(w.numel() for name, w in fresh.named_parameters() if "lora_B" in name)
    assert spice.gradients(fresh, tiny[1], ROWS).shape == (len(ROWS), d)


def state(model: Any, tokenizer: Any) -> dict[str, Any]:
    """All that could be changed, numbers and what is patched."""
    modules = dict(model.named_modules())
    return {
        "numbers": {name: weight.clone() for name, weight in model.state_dict().items()},
        "gradients": [weight.grad for weight in model.parameters()],
        "learns": [weight.requires_grad for weight in model.parameters()],
        "attributes": {name: dict(vars(module)) for name, module in modules.items()},
        "config": model.config.to_dict(),
        "attention": model.config._attn_implementation,
        "tokenizer": [tokenizer.backend_tokenizer.to_str(), tokenizer.pad_token,
                      tokenizer.backend_tokenizer.encode_special_tokens],
        "random": [torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())],
        "modes": [torch.is_grad_enabled(), torch.is_inference_mode_enabled()],
    }  # fmt: skip


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before["numbers"].keys() == after["numbers"].keys()
    for name, weight in before["numbers"].items():
        assert torch.equal(weight, after["numbers"][name]), name
    assert before["attributes"].keys() == after["attributes"].keys()
    for name, attributes in before["attributes"].items():
        assert attributes.keys() == after["attributes"][name].keys(), name
        assert all(after["attributes"][name][key] is v for key, v in attributes.items()), name
    for name in ("gradients", "learns", "config", "attention", "tokenizer", "random", "modes"):
        assert before[name] == after[name], name


@pytest.mark.parametrize("kind", ["bare", "adapted"])
@pytest.mark.parametrize("mode", [True, False])
def test_the_model_is_left_as_it_was(tiny: tuple[Any, Any], kind: str, mode: bool) -> None:
    model = adapted(tiny[0]) if kind == "adapted" else copy.deepcopy(tiny[0])
    model.train(mode)
    next(model.parameters()).requires_grad_(not next(model.parameters()).requires_grad)
    tokenizer = copy.deepcopy(tiny[1])
    tokenizer.backend_tokenizer.enable_truncation(5)
    before = state(model, tokenizer)
    options: dict[str, Any] = {"autocast": "bfloat16", "recompute_tokens": 8, "batch_size": 2}
    spice.gradients(model, tokenizer, ROWS, **options)
    assert_same(before, state(model, tokenizer))
    with pytest.raises(InputError):
        spice.gradients(model, tokenizer, ROWS, lora={"targets": ["nowhere"]})
    assert_same(before, state(model, tokenizer))


def test_what_surrounds_the_call_does_not_matter(tiny: tuple[Any, Any]) -> None:
    expected = spice.gradients(*tiny, ROWS)
    for around in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)):
        with around:
            np.testing.assert_array_equal(spice.gradients(*tiny, ROWS), expected)


def test_a_row_that_has_no_room_for_an_answer_is_nan_and_left_out(tiny: tuple[Any, Any]) -> None:
    rows = [*ROWS[:2], {"instruction": "x" * 500, "response": "y"}]
    found = spice.gradients(*tiny, rows)
    assert np.isnan(found[2]).all()
    assert np.isfinite(found[:2]).all()
    with pytest.warns(UserWarning, match="1 of 3 rows left out: not finite"):
        assert sorted(spice.select(found, 2).indices) == [0, 1]


def test_no_rows_are_no_gradients(tiny: tuple[Any, Any]) -> None:
    assert spice.gradients(*tiny, []).shape == (0, spice.gradients(*tiny, ROWS[:1]).shape[1])


def test_what_is_not_learnt_does_not_matter(tiny: tuple[Any, Any]) -> None:
    """An answer of weight 0 behind the last that is learnt, and answers but the last."""
    ask = {"role": "user", "content": "q"}
    said = [ask, {"role": "assistant", "content": "this"}, ask]
    one, other = (
        {"messages": [*said, {"role": "assistant", "content": text, "weight": 0}]}
        for text in ("x", "another")
    )
    found = spice.gradients(*tiny, [one, other], batch_size=1)
    assert close(found[:1], found[1:])
    talk = ROWS[2]
    alone, whole = (spice.gradients(*tiny, [talk], supervise=how) for how in ("last", "all"))
    assert not close(alone, whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 1}, "max_tokens=1: must be"),
        ({"reduction": "median"}, "reduction=median: must be mean or sum"),
        ({"projection": 0}, "projection=0"),
        ({"lora": {"r": 0}}, "r=0"),
        ({"lora": {"targets": ["nowhere"]}}, r"lora.targets=\[nowhere\]: no linear layer"),
        ({"mode": "chat"}, "the tokenizer has no chat template"),
    ],
)
def test_options_out_of_range_are_input_errors(
    tiny: tuple[Any, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        spice.gradients(*tiny, ROWS, **options)


def test_an_option_that_there_is_not_is_named(tiny: tuple[Any, Any]) -> None:
    with pytest.raises(TypeError, match=r"'max_token'. Did you mean 'max_tokens'"):
        spice.gradients(*tiny, ROWS, max_token=5)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("text", r"rows\[1\]: must be an object with named fields, not text"),
        ({"instruction": "?"}, r"rows\[1\]: no response"),
        ({"instruction": "?", "response": 3}, r"rows\[1\]: 'response' must be text"),
    ],
)
def test_a_row_that_is_none_is_named(tiny: tuple[Any, Any], row: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        spice.gradients(*tiny, [ROWS[0], row])


def merged(model: Any) -> Any:
    found = adapted(model)
    found.merge_adapter()
    return found


def switched_off(model: Any) -> Any:
    found = adapted(model)
    found.base_model.disable_adapter_layers()
    return found


UNFIT: list[tuple[Callable[[Any], Any], str]] = [
    (lambda model: "a model", "must be one of transformers or of PEFT, not str"),
    (lambda model: torch.nn.Linear(2, 2), "must be one of transformers or of PEFT, not Linear"),
    (merged, "its adapters are merged"),
    (switched_off, "its adapters are switched off"),
    (lambda model: adapted(model, use_dora=True), "a variant of LoRA"),
    (lambda model: get_peft_model(copy.deepcopy(model), IA3Config(
        target_modules=["q_proj"], feedforward_modules=[])), "no LoRA on linear layers"),
    (lambda model: get_peft_model(copy.deepcopy(model), PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=2)), "no LoRA on linear layers"),
]  # fmt: skip


@pytest.mark.parametrize(("made", "message"), UNFIT, ids=[message for _, message in UNFIT])
def test_a_model_that_cannot_be_read_is_refused(
    tiny: tuple[Any, Any], made: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        spice.gradients(made(tiny[0]), tiny[1], ROWS)


def test_an_adapter_of_its_own_takes_no_options_of_another(tiny: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match="the model has adapters already"):
        spice.gradients(adapted(tiny[0]), tiny[1], ROWS, lora={"r": 4})


def test_a_tokenizer_has_to_be_a_fast_one(tiny: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match="must be a fast one of transformers, not object"):
        spice.gradients(tiny[0], object(), ROWS)


def test_the_room_of_the_same_name_stays_one() -> None:
    import spice.gradients.agreement as room

    assert room.directions is directions
    assert callable(spice.gradients)
    assert spice.gradients.agreement is room  # type: ignore[attr-defined]
