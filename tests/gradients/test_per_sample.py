"""Per-sample gradients against the loop that anyone can read: one row, one backward."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from spice.data.batch_limit import BatchLimit
from spice.data.batches import pad
from spice.data.rendering import Example
from spice.errors import InputError
from spice.gradients import store
from spice.gradients.collecting import factors
from spice.gradients.extraction import Extraction
from spice.gradients.passes import Pass
from spice.gradients.per_sample import dimension, outer_products, per_sample_gradients
from spice.models.checkpoint import Checkpoint
from spice.models.lora import Lora
from spice.models.recompute import decoder_layers
from spice.models.room import Room
from spice.storage.coding import round_trip

LORA = Lora(r=4, alpha=8, dropout=0.3, targets="all-linear")
ARCHITECTURES = [
    ("llama", {}),
    ("llama", {"tie_word_embeddings": True, "attention_bias": True}),
    ("qwen2", {}),
    ("qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    ("qwen2_moe", {}),  # a shared expert sees the tokens of all rows one behind the other
    ("gemma3", {}),  # a language model beside an image encoder
]


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """Rows of 3 to 40 tokens; one is all prompt, one starts its response at its second token."""
    rng = np.random.default_rng(0)
    lengths = [7, 40, 3, 22, 12, 30, 5, 18, 9, 26, 15]
    rows = [rng.integers(4, 90, length).tolist() for length in lengths]
    starts = [int(rng.integers(1, length)) for length in lengths]
    starts[2], starts[5] = 1, 30
    return [Example(ids, start) for ids, start in zip(rows, starts, strict=True)]


@pytest.fixture
def attach(make_checkpoint: Callable[..., Path]) -> Callable[..., Any]:
    """A tiny model with adapters; biases and, if wanted, the factors B moved off zero."""

    def attach(family: str, *, moved: bool = False, lora: Lora = LORA, **overrides: Any) -> Any:
        model = lora.attach(
            Checkpoint(str(make_checkpoint(family, **overrides)), "float32").load(), 3
        )
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or (moved and "lora_B" in name):
                torch.nn.init.normal_(parameter, std=0.1)
        return model.eval()

    return attach


def loop(model: Any, examples: list[Example], reduction: str) -> torch.Tensor:
    """∂/∂(A, B) of each row's loss, over all factors in the model's order: n × d."""
    found = []
    for e in examples:
        model.zero_grad()
        ids = torch.tensor(e.ids)
        logits = model(input_ids=ids[None], use_cache=False).logits[0].float()
        if e.supervised:
            loss = torch.nn.functional.cross_entropy(
                logits[e.start - 1 : -1], ids[e.start :], reduction=reduction
            )
            loss.backward()
        slots = [p for name, p in model.named_parameters() if "lora_" in name]
        rows = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in slots]
        found.append(torch.cat([row.flatten().float() for row in rows]))
    return torch.stack(found)


def coordinates(model: Any) -> torch.Tensor:
    """Which of the loop's coordinates ``factors`` keeps."""
    kept = {f"{name}.default.weight" for name, _ in factors(model)}
    named = [(n, p) for n, p in model.named_parameters() if "lora_" in n]
    return torch.cat([torch.full((p.numel(),), n in kept) for n, p in named])


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest relative error of a row; a zero row has to be zero."""
    error, size = (ours - theirs).norm(dim=1), theirs.norm(dim=1)
    assert torch.all(error[size == 0] == 0)
    return float((error[size > 0] / size[size > 0]).max())


def batched(model: Any, examples: list[Example], reduction: str, batches: list[list[int]]) -> Any:
    out = torch.full((len(examples), dimension(model)), torch.nan)
    for rows in batches:
        out[rows] = per_sample_gradients(model, pad(examples, rows, 0), reduction)
    return out


# -- one batch ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("moved", [False, True], ids=["B=0", "B≠0"])
@pytest.mark.parametrize(("family", "overrides"), ARCHITECTURES)
def test_a_padded_batch_gives_what_one_row_at_a_time_gives(
    attach: Any, examples: list[Example], family: str, overrides: Any, moved: bool, reduction: str
) -> None:
    model = attach(family, moved=moved, **overrides)
    expected = loop(model, examples, reduction)
    kept = coordinates(model)
    assert kept.all() == moved
    assert torch.all(expected[:, ~kept] == 0)  # what is left out is zero, not small
    ours = batched(model, examples, reduction, [list(range(len(examples)))])
    assert ours.dtype == torch.float32
    assert distance(ours, expected[:, kept]) < 1e-5
    assert not ours[5].any()  # no supervised token, no gradient


def test_a_head_that_is_the_embedding_has_its_own_gradient(
    attach: Any, examples: list[Example]
) -> None:
    lora = Lora(r=4, alpha=8, dropout=0.0, targets=("q_proj", "lm_head"))
    model = attach("qwen2", moved=True, lora=lora, tie_word_embeddings=True)
    expected = loop(model, examples, "sum")
    ours = batched(model, examples, "sum", [list(range(len(examples)))])
    assert expected.shape == ours.shape
    assert distance(ours, expected) < 1e-5


def test_a_layer_that_sees_some_tokens_only_is_refused() -> None:
    seen = torch.zeros(3, 4)
    with pytest.raises(InputError, match=r"sees \[3, 4\] of 2 rows of 2 tokens.*lora.targets"):
        outer_products(seen, seen, rows=2, tokens=2)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_neither_batch_size_nor_order_matters(
    attach: Any, examples: list[Example], family: str
) -> None:
    model = attach(family, moved=True)
    one_by_one = batched(model, examples, "mean", [[i] for i in range(11)])
    for size in (2, 3, 4, 7, 11):
        order = np.random.default_rng(size).permutation(11).tolist()
        batches = [order[i : i + size] for i in range(0, 11, size)]
        assert distance(batched(model, examples, "mean", batches), one_by_one) < 1e-5


def test_a_batch_without_any_supervision_is_zero(attach: Any) -> None:
    model = attach("llama")
    for rows in ([Example([5, 6, 7], 3), Example([8], 1)], [Example([8], 1)]):
        ours = per_sample_gradients(model, pad(rows, range(len(rows)), 0), "mean")
        assert ours.shape == (len(rows), dimension(model))
        assert not ours.any()


def test_dropout_is_off_while_gradients_are_read(attach: Any, examples: list[Example]) -> None:
    batch = pad(examples, range(11), 0)
    wet, dry = (
        Pass(
            attach("llama", lora=dataclasses.replace(LORA, dropout=p)).train(),
            partial(per_sample_gradients, reduction="mean"),
            partial(Room, limit=BatchLimit(16), kind="learning"),
        ).predict_step(batch, 0)
        for p in (0.9, 0.0)
    )
    assert torch.equal(wet, dry)


def test_a_bfloat16_model_gives_the_same_up_to_its_precision(
    make_checkpoint: Callable[..., Path], examples: list[Example]
) -> None:
    path = str(make_checkpoint("qwen2"))
    whole, half = (
        batched(
            LORA.attach(Checkpoint(path, dtype).load(), 3).eval(), examples, "mean", [[*range(11)]]
        )
        for dtype in ("float32", "bfloat16")
    )
    assert half.dtype == torch.float32
    assert distance(half, whole) < 0.05


def test_a_layer_that_is_used_twice_has_the_sum_of_both_uses(
    attach: Any, examples: list[Example]
) -> None:
    model = attach("llama", moved=True)
    layers = model.base_model.model.model.layers
    layers[1] = layers[0]
    expected = loop(model, examples, "mean")
    ours = batched(model, examples, "mean", [list(range(11))])
    assert distance(ours, expected[:, coordinates(model)]) < 1e-5


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_activations_change_nothing_or_raise(
    attach: Any, examples: list[Example], reentrant: bool
) -> None:
    """Checkpointing runs the forward hooks twice, and the old kind runs them without a graph."""
    model = attach("llama", moved=True, lora=dataclasses.replace(LORA, dropout=0.0))
    expected = batched(model, examples, "mean", [list(range(11))])
    inner = model.base_model.model
    inner.gradient_checkpointing_enable({"use_reentrant": reentrant})
    inner.enable_input_require_grads()
    model.train()
    try:
        ours = batched(model, examples, "mean", [list(range(11))])
    except RuntimeError:
        assert reentrant
    else:
        assert distance(ours, expected) < 1e-5


# -- cheaper ways ------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [False, True], ids=["B=0", "B≠0"])
def test_the_backward_pass_ends_at_the_last_layers(
    attach: Any, examples: list[Example], moved: bool
) -> None:
    lora = dataclasses.replace(LORA, layers=1)
    model = attach("llama", moved=moved, lora=lora, num_hidden_layers=3)
    seen: dict[int, bool] = {}

    def look(number: int, module: Any, inputs: Any, output: Any) -> None:
        seen[number] = output.requires_grad

    for number, layer in enumerate(decoder_layers(model)):
        layer.register_forward_hook(partial(look, number))
    ours = batched(model, examples, "mean", [[*range(11)]])
    assert seen == {0: False, 1: False, 2: True}
    expected = loop(model, examples, "mean")
    assert distance(ours, expected[:, coordinates(model)]) < 1e-5


def test_products_in_bfloat16_give_the_same_up_to_their_precision(
    make_checkpoint: Callable[..., Path], examples: list[Example]
) -> None:
    base = Checkpoint(str(make_checkpoint("qwen2")), "float32")
    whole, half = (
        batched(
            dataclasses.replace(EXTRACTION, autocast=autocast).attach(base.load()).eval(),
            examples,
            "mean",
            [[*range(11)]],
        )
        for autocast in (None, "bfloat16")
    )
    assert half.dtype == torch.float32
    assert 1e-4 < distance(half, whole) < 0.05


def test_products_in_bfloat16_are_the_same_for_every_batch_and_recomputed(
    make_checkpoint: Callable[..., Path], examples: list[Example]
) -> None:
    base = Checkpoint(str(make_checkpoint("llama")), "float32")
    kept, again = (
        dataclasses.replace(EXTRACTION, autocast="bfloat16", recompute_tokens=tokens)
        .attach(base.load())
        .eval()
        for tokens in (9_000, 1)
    )
    one = batched(kept, examples, "mean", [[*range(11)]])
    assert torch.equal(batched(again, examples, "mean", [[*range(11)]]), one)
    assert distance(batched(kept, examples, "mean", [[i] for i in range(11)]), one) < 0.05


def test_both_are_in_the_key() -> None:
    known = [
        EXTRACTION,
        dataclasses.replace(EXTRACTION, autocast="bfloat16"),
        dataclasses.replace(EXTRACTION, lora=dataclasses.replace(LORA, layers=1)),
    ]
    assert len({json.dumps(e.fingerprint(), sort_keys=True) for e in known}) == 3


# -- a whole pool ------------------------------------------------------------------------------

IDS = [f"row{i}" for i in range(11)]
EXTRACTION = Extraction(
    LORA,
    "mean",
    projection=None,
    dtype="float32",
    batch_size=2,
    batch_tokens=10_000,
    recompute_tokens=9_000,
    shard_rows=3,
    seed=7,
)


@pytest.fixture
def extract(
    tmp_path: Path, make_checkpoint: Callable[..., Path], examples: list[Example]
) -> Callable[..., Path]:
    """Fill a store through Lightning; returns its folder."""

    def extract(name: str = "store", callbacks: Any = (), **changed: Any) -> Path:
        store.extract(
            Checkpoint(str(make_checkpoint("llama")), "float32").load,
            dataclasses.replace(EXTRACTION, **changed),
            examples,
            IDS,
            folder=tmp_path / name,
            metadata={"pool": "test", "reduction": changed.get("reduction", "mean")},
            pad_id=0,
            trainer={
                "accelerator": "cpu",
                "enable_progress_bar": False,
                "callbacks": list(callbacks),
            },
            say=lambda message: None,
        )
        return tmp_path / name

    return extract


def read(folder: Path, examples: list[Example], **changed: Any) -> np.ndarray:
    extraction = dataclasses.replace(EXTRACTION, **changed)
    metadata = {"pool": "test", "reduction": changed.get("reduction", "mean")}
    return store.read(folder, extraction, examples, IDS, metadata)[:]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_store_holds_what_is_computed_directly(
    extract: Any, examples: list[Example], make_checkpoint: Callable[..., Path]
) -> None:
    stored = torch.tensor(read(extract(), examples))
    model = LORA.attach(Checkpoint(str(make_checkpoint("llama")), "float32").load(), 7).eval()
    eligible = [i for i in range(11) if i != 5]
    expected = loop(model, [examples[i] for i in eligible], "mean")[:, coordinates(model)]
    assert distance(stored[eligible], expected) < 1e-5
    assert stored[5].isnan().all()  # not in the store at all


@pytest.mark.parametrize(
    "changed",
    [
        {"batch_size": 1},
        {"batch_size": 50},
        {"batch_tokens": 1},
        {"batch_tokens": "auto", "recompute_tokens": "auto"},
        {"recompute_tokens": 20},
        {"shard_rows": 1},
        {"shard_rows": 50},
    ],
    ids=str,
)
def test_batches_and_shards_change_rounding_only(
    extract: Any, examples: list[Example], changed: dict[str, Any]
) -> None:
    one = torch.tensor(read(extract("one"), examples)).nan_to_num()
    other = torch.tensor(read(extract("other", **changed), examples, **changed)).nan_to_num()
    assert distance(other, one) < 1e-5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_fewer_bits_round_what_would_be_stored(
    extract: Any, examples: list[Example], dtype: str
) -> None:
    exact = np.nan_to_num(read(extract("exact"), examples))
    folder = extract("rounded", dtype=dtype)
    found = np.nan_to_num(read(folder, examples, dtype=dtype))
    np.testing.assert_array_equal(found, round_trip(exact, dtype))
    told = json.loads((folder / "rounding.json").read_text())
    assert 0 < told["rms"] <= told["largest"] < {"bfloat16": 5e-3, "float16": 5e-4}.get(dtype, 0.02)
    assert not (extract("exact") / "rounding.json").exists()


def test_missing_shards_are_made_again_to_the_byte(extract: Any) -> None:
    folder = extract()
    before = contents(folder)
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) == 4
    shards[0].unlink()
    shards[2].write_bytes(shards[2].read_bytes()[:-9])  # cut short, as a failing disk leaves it
    extract()
    assert contents(folder) == before


class Interrupt(pl.Callback):
    """Counts batches and stops at one of them."""

    def __init__(self, after: int | None = None) -> None:
        self.seen = 0
        self.after = after

    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.seen += 1
        if self.seen == self.after:
            raise OSError("power cut")


def test_an_interrupted_extraction_goes_on_from_its_whole_shards(extract: Any) -> None:
    whole, rest = Interrupt(), Interrupt()
    expected = contents(extract("whole", callbacks=[whole]))
    with pytest.raises(OSError, match="power cut"):
        extract("cut", callbacks=[Interrupt(after=5)])
    assert contents(extract("cut", callbacks=[rest])) == expected
    # shards of 3 rows are two batches of 2; the third shard had only its first when the cut came
    assert (whole.seen, rest.seen) == (7, 3)


def test_an_interrupted_store_keeps_its_shards_size(extract: Any, examples: list[Example]) -> None:
    with pytest.raises(OSError, match="power cut"):
        extract("cut", callbacks=[Interrupt(after=5)])
    done = contents(extract("cut", shard_rows=4))
    assert done == contents(extract("whole"))


def test_the_run_s_own_seed_does_not_reach_the_store(extract: Any) -> None:
    torch.manual_seed(1)
    one = contents(extract("one"))
    torch.manual_seed(2)
    assert contents(extract("two")) == one
    assert contents(extract("three", seed=8)) != one


def test_a_store_of_something_else_is_refused(extract: Any) -> None:
    extract()
    with pytest.raises(InputError, match="reduction differ"):
        extract(reduction="sum")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"reduction": "men"}, "mean"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_tokens": 0}, "batch_tokens=0: must be auto, or a whole number of at least 1"),
        ({"batch_tokens": "aut"}, "batch_tokens=aut: must be auto, or a whole"),
        ({"recompute_tokens": 0}, "recompute_tokens"),
        ({"projection": 0}, "projection"),
        ({"dtype": "fp16"}, "^dtype=fp16: must be float32, bfloat16, float16 or int8"),
        ({"shard_rows": 0}, "shard_rows"),
    ],
    ids=str,
)
def test_options_out_of_range_are_input_errors(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        dataclasses.replace(EXTRACTION, **changed)


def test_batches_and_shards_are_no_part_of_what_is_stored() -> None:
    other = dataclasses.replace(EXTRACTION, batch_size=5, batch_tokens=99, shard_rows=9)
    assert other.fingerprint() == EXTRACTION.fingerprint()
    # What is not used leaves no mark, so that stores made before it was known keep their keys.
    assert set(EXTRACTION.fingerprint()) == {"lora", "reduction", "seed"}
    others: tuple[dict[str, Any], ...] = (
        {"reduction": "sum"},
        {"seed": 8},
        {"lora": dataclasses.replace(LORA, r=2)},
        {"projection": 64},
        {"dtype": "int8"},
    )
    for changed in others:
        assert dataclasses.replace(EXTRACTION, **changed).fingerprint() != EXTRACTION.fingerprint()
