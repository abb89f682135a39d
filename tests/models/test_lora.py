"""Where adapters go, what they are kept off, and when they may be merged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from spice.errors import InputError
from spice.models.checkpoint import Checkpoint
from spice.models.lora import Lora, on, without
from spice.models.merging import merged, shared_targets

MakeCheckpoint = Callable[..., Path]
ATTENTION = "lora.targets=[q_proj,k_proj,v_proj,o_proj]"


def lora(targets: Any, dropout: float = 0.05) -> Lora:
    return Lora(r=4, alpha=8, dropout=dropout, targets=targets)


@pytest.fixture
def refusal(make_checkpoint: MakeCheckpoint) -> Callable[..., str]:
    def refusal(targets: Any, family: str = "llama", **options: Any) -> str:
        outline = Checkpoint(str(make_checkpoint(family)), "float32").outline()
        with pytest.raises(InputError) as caught:
            lora(targets, **options).attach(outline, seed=0)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refusal


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["q_porj"], "lora.targets=[q_porj]: no linear layer is called q_porj. Did you mean"),
        (["q_proj", "v_porj"], "no linear layer is called v_porj. Did you mean 'v_proj'?"),
        (["norm"], "no linear layer is called norm."),
        ("(", "lora.targets=(: no regular expression (missing )"),
        ("q_proj", "the ends of names go in a list: [q_proj]"),
        ("all-lienar", "Did you mean 'all-linear'?"),
        ([], "targets=[]: must be a name or a list of names"),
        (["embed_tokens"], "model.embed_tokens is an embedding, and adapters go on linear layers"),
        (["q_proj", "embed_tokens"], "is an embedding"),
    ],
)
def test_targets_that_are_no_linear_layers_are_refused_with_those_there_are(
    refusal: Callable[..., str], targets: Any, said: str
) -> None:
    told = refusal(targets)
    assert said in told
    assert not targets or "no regular expression" in told or "q_proj" in told


@pytest.mark.parametrize("dropout", [0.0, 0.05])
@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_experts_are_refused_with_the_targets_that_work(
    refusal: Callable[..., str], make_checkpoint: MakeCheckpoint, family: str, dropout: float
) -> None:
    told = refusal("all-linear", family, dropout=dropout)
    assert "experts between which a router divides the tokens" in told
    assert told.endswith(f"{ATTENTION} works")
    outline = Checkpoint(str(make_checkpoint(family)), "float32").outline()
    assert len(on(lora(["q_proj", "k_proj", "v_proj", "o_proj"]).attach(outline, seed=0))) == 8


def test_a_shared_expert_has_adapters_like_any_other_layer(make_checkpoint: MakeCheckpoint) -> None:
    outline = Checkpoint(str(make_checkpoint("qwen2_moe")), "float32").outline()
    adapted = lora("all-linear").attach(outline, seed=0)
    assert "the routed experts of 2 layers have no adapter" in str(without(adapted))
    found = on(adapted)
    assert sum("shared_expert" in name for name in found) == 2 * 4
    assert not any("experts" in name.split(".") for name in found)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "o_proj"], ".*q_proj"])
def test_adapters_are_kept_off_what_sees(make_checkpoint: MakeCheckpoint, targets: Any) -> None:
    outline = Checkpoint(str(make_checkpoint("gemma3")), "float32").outline()
    assert any("vision_tower" in name and "q_proj" in name for name, _ in outline.named_modules())
    found = on(lora(targets).attach(outline, seed=0))
    assert found
    assert all(".language_model." in name for name in found)


def moved(model: PeftModel) -> PeftModel:
    """As training would have left it: no factor is zero."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(4, 64).view(3, 20)).logits


@pytest.mark.parametrize(
    ("family", "targets", "tied", "stays"),
    [
        ("qwen2", ["q_proj", "lm_head"], True, True),
        ("qwen2", "all-linear", True, False),
        ("qwen2", ["q_proj", "lm_head"], False, False),
        ("gemma3", ["q_proj", "lm_head"], True, True),
        ("gemma3", "all-linear", True, False),
        ("qwen2_moe", "all-linear", False, False),
    ],
)
def test_what_is_scored_is_what_was_tuned_at_every_position(
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
    family: str,
    targets: Any,
    tied: bool,
    stays: bool,
) -> None:
    base = Checkpoint(str(make_checkpoint(family, tie_word_embeddings=tied)), "float32")
    tuned = moved(lora(targets).attach(base.load(), seed=0))
    expected = logits(tuned)
    assert (expected - logits(base.load())).abs().max() > 0.1
    tuned.save_pretrained(str(tmp_path))
    found = PeftModel.from_pretrained(base.load(), str(tmp_path))
    assert bool(shared_targets(found)) == stays
    scored = merged(found)
    assert isinstance(scored, PeftModel) == stays
    assert torch.allclose(logits(scored), expected, atol=1e-4)
    assert torch.equal(logits(scored).argmax(-1), expected.argmax(-1))


# -- the last layers alone -------------------------------------------------------------------------


def last(layers: int, targets: Any = "all-linear") -> Lora:
    return Lora(r=4, alpha=8, dropout=0.0, targets=targets, layers=layers)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize(
    ("targets", "each", "more"),
    [("all-linear", 7, 0), (["q_proj", "lm_head"], 1, 1), (r".*\.[qk]_proj", 2, 0)],
)
def test_the_last_layers_alone_have_adapters(
    make_checkpoint: MakeCheckpoint, family: str, targets: Any, each: int, more: int
) -> None:
    more_layers = {"num_hidden_layers": 4}
    if family == "gemma3":
        more_layers["layer_types"] = ["sliding_attention"] * 4  # type: ignore[assignment]
    outline = Checkpoint(str(make_checkpoint(family, **more_layers)), "float32").outline()
    found = on(last(2, targets).attach(outline, seed=0))
    assert len(found) == 2 * each + more
    assert {part for name in found for part in name.split(".") if part.isdigit()} == {"2", "3"}


def test_more_layers_than_there_are_is_refused(make_checkpoint: MakeCheckpoint) -> None:
    outline = Checkpoint(str(make_checkpoint("llama")), "float32").outline()
    with pytest.raises(InputError, match=r"^lora.layers=3: the model has 2 layers$"):
        last(3).attach(outline, seed=0)
    with pytest.raises(InputError, match="layers=0: must be a whole number of at least 1"):
        last(0)


def test_an_adapter_on_the_last_layers_is_found_where_it_was_saved(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base = Checkpoint(str(make_checkpoint("llama")), "float32")
    tuned = moved(last(1).attach(base.load(), seed=0))
    tuned.save_pretrained(str(tmp_path))
    found = PeftModel.from_pretrained(base.load(), str(tmp_path))
    assert on(found) == on(tuned)
    assert torch.equal(logits(found), logits(tuned))
