"""The loss at supervised positions, in pieces, against whole logits in double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from spice.data.batches import IGNORED, Batch, pad
from spice.data.rendering import Example
from spice.models import head
from spice.models.lora import Lora
from spice.models.loss import response_nll

SMALL = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 64,
}  # fmt: skip
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"tie_word_embeddings": True}),
    ("qwen2", {}),
    ("qwen3", {}),
    ("mistral", {}),
    ("gemma2", {"final_logit_softcapping": 1.5}),  # bends every logit
    ("granite", {"logits_scaling": 7.0}),
    ("cohere", {"logit_scale": 0.3}),
    ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    ("gpt_neox", {}),
    ("opt", {"word_embed_proj_dim": 16, "ffn_dim": 40}),
    ("phi", {}),
    ("falcon", {"head_dim": None}),
    ("bloom", {"n_layer": 2, "n_head": 4}),
    ("olmo2", {}),
    ("stablelm", {}),
    ("gemma3_text", {"layer_types": ["full_attention"] * 2}),
]
EXAMPLES = [
    Example(list(range(5, 5 + length)), start)
    for length, start in ((17, 6), (9, 8), (23, 1), (4, 4), (12, 2))
]


def tiny(family: str, **changed: Any) -> PreTrainedModel:
    """Weights large enough for logits that differ."""
    known = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    sizes = {name: size for name, size in (SMALL | known | changed).items() if size is not None}
    config = AutoConfig.for_model(family, **sizes)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.4)
    return model


def plain(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The sum of each row's token losses from all its logits."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    log_p = torch.log_softmax(logits.double(), dim=-1)[:, :-1]
    labels = batch["labels"][:, 1:]
    found = log_p.gather(2, labels.clamp(min=0)[..., None])[..., 0]
    return -(found * (labels != IGNORED)).sum(dim=1)


@pytest.fixture(params=[1, 300, 2**24], ids=["by one", "by three", "at once"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of so many logits."""
    monkeypatch.setattr(head, "PIECE", request.param)


@pytest.mark.parametrize(("family", "changed"), MODELS, ids=str)
def test_pieces_give_what_whole_logits_give(
    family: str, changed: dict[str, Any], pieces: None
) -> None:
    lora = Lora(r=4, alpha=8, dropout=0.0, targets="all-linear")
    adapted: Any = lora.attach(tiny(family, **changed), 0)
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn_like(weight).double() / 5
    batch = pad(EXAMPLES, range(5), 0)
    weights = [p for p in adapted.parameters() if p.requires_grad]
    shares = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.1], dtype=torch.float64)
    expected = plain(adapted, batch)
    slopes = torch.autograd.grad((expected * shares).sum(), weights)
    nll, count = response_nll(adapted, batch)
    assert nll.dtype == torch.float64
    assert count.tolist() == [11, 1, 22, 0, 10]
    torch.testing.assert_close(nll, expected, rtol=1e-9, atol=1e-9)
    found = torch.autograd.grad((nll * shares).sum(), weights)
    for ours, theirs in zip(found, slopes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(response_nll(adapted, batch)[0], expected.detach())


def test_a_head_that_learns_has_its_gradient(pieces: None) -> None:
    lora = Lora(r=4, alpha=8, dropout=0.0, targets=("q_proj", "lm_head"))
    adapted: Any = lora.attach(tiny("llama"), 0)
    weights = [p for p in adapted.parameters() if p.requires_grad]
    batch = pad(EXAMPLES, range(5), 0)
    expected = torch.autograd.grad(plain(adapted, batch).sum(), weights)
    found = torch.autograd.grad(response_nll(adapted, batch)[0].sum(), weights)
    assert any(slope.any() for slope in found)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


def test_nothing_supervised_costs_nothing_and_leads_back() -> None:
    model = tiny("llama")
    batch = pad([Example([5, 6, 7], 3), Example([8], 1)], [0, 1], 0)
    nll, count = response_nll(model.requires_grad_(False), batch)
    assert not nll.any()
    assert not count.any()
    embedded = model.get_input_embeddings().requires_grad_(True).weight  # leads back to the head
    [slope] = torch.autograd.grad(response_nll(model, batch)[0].sum(), embedded)
    assert not slope.any()


def test_no_more_logits_are_made_than_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = tiny("llama"), []
    model.requires_grad_(False)
    model.get_output_embeddings().register_forward_hook(
        lambda module, inputs, output: seen.append(output.shape[:-1].numel())
    )
    monkeypatch.setattr(head, "PIECE", 97 * 8)
    response_nll(model, pad(EXAMPLES, range(5), 0))
    asked = 11 + 1 + 22 + 10
    assert sum(seen) == asked + 5  # and one position of each row, where the model's own pass ends
    assert max(seen) <= 8


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_the_likeliest_tokens_and_their_probability(family: str, pieces: None) -> None:
    model = tiny(family)
    batch = pad(EXAMPLES, range(5), 0)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = model(**inputs).logits.flatten(0, 1)
    places = torch.tensor([3, 3, 30, 60, 90])
    targets = logits[places].argmax(dim=1)
    targets[1] = (targets[1] + 1) % 97
    log_p, first = head.token_choices(model, inputs, places, targets)
    assert first.tolist() == [True, False, True, True, True]
    expected = torch.log_softmax(logits, dim=-1)[places, targets]
    torch.testing.assert_close(log_p.double(), expected, rtol=1e-6, atol=1e-6)
