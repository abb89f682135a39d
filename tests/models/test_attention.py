"""Widened heads: the same attention, its gradients and its cache included."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spice.models.attention import NAME, widen_narrow_heads


def narrow(heads: int = 4, groups: int = 2, width: int = 6) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=heads * width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).double().eval()


@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("padded", [False, True])
def test_logits_and_gradients_are_the_same(groups: int, padded: bool) -> None:
    plain = narrow(groups=groups)
    wide = copy.deepcopy(plain)
    widen_narrow_heads(wide)
    assert wide.config._attn_implementation == NAME
    ids = torch.randint(3, 50, (3, 20), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, 12:] = 0
    found = [model(input_ids=ids, attention_mask=mask).logits[mask > 0] for model in (plain, wide)]
    assert torch.allclose(*found, rtol=1e-10, atol=1e-12)
    for model, logits in zip((plain, wide), found, strict=True):
        logits.square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())
    for p, q in zip(plain.parameters(), wide.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-9, atol=1e-10)  # type: ignore[arg-type]


def test_generation_is_the_same() -> None:
    plain = narrow()
    wide = copy.deepcopy(plain)
    widen_narrow_heads(wide)
    ids = torch.randint(3, 50, (2, 7), generator=torch.Generator().manual_seed(1))
    options = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    assert torch.equal(plain.generate(ids, **options), wide.generate(ids, **options))


def test_wide_heads_stay_as_they_are() -> None:
    model = narrow(width=16)
    widen_narrow_heads(model)
    assert model.config._attn_implementation == "sdpa"
