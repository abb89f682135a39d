"""Attention as it is prepared: the same, its gradients and its cache included."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spice.models.attention import NAME, prepare_attention, repeatable


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
    prepare_attention(wide)
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
    prepare_attention(wide)
    ids = torch.randint(3, 50, (2, 7), generator=torch.Generator().manual_seed(1))
    options = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    assert torch.equal(plain.generate(ids, **options), wide.generate(ids, **options))


def test_wide_heads_stay_as_they_are() -> None:
    model = narrow(width=16)
    prepare_attention(model)
    assert model.config._attn_implementation == (NAME if torch.cuda.is_available() else "sdpa")


def told_of_chance() -> tuple[bool, bool]:
    """Whether torch is to refuse what adds up in any order, and whether it only warns."""
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def parts(device: str = "cpu", dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    found = [torch.randn(4, 3, 70, 16, generator=draw).to(device, dtype) for _ in range(3)]
    return [part.requires_grad_() for part in found]


@pytest.mark.parametrize("learnt", [(0, 1, 2), (0,), (1, 2), ()])
def test_the_way_back_that_is_made_once_more_is_the_same(learnt: tuple[int, ...]) -> None:
    mask = torch.ones(70, 70, dtype=torch.bool).tril()
    before, seen = told_of_chance(), []

    def attend(*given: torch.Tensor) -> torch.Tensor:
        seen.append(told_of_chance())
        return torch.nn.functional.scaled_dot_product_attention(*given, attn_mask=mask)

    given, plain = parts(), parts()
    for each in (given, plain):
        for place in {0, 1, 2} - set(learnt):
            each[place].requires_grad_(False)
    found, expected = repeatable(attend, *given), attend(*plain)
    assert torch.equal(found, expected)
    assert found.requires_grad == bool(learnt)
    for each, out in ((given, found), (plain, expected)):
        if learnt:
            (out.square().sum() + out[0].sum()).backward()
        assert [part.grad is not None for part in each] == [place in learnt for place in range(3)]
    for place in learnt:
        assert torch.equal(given[place].grad, plain[place].grad)
    assert seen == [before, before, *[(True, False)] * bool(learnt)]


@pytest.mark.parametrize("warned", [False, True])
def test_what_torch_was_told_of_chance_is_as_before(warned: bool) -> None:
    given, (before, only) = parts(), told_of_chance()
    torch.use_deterministic_algorithms(True, warn_only=warned)
    try:
        found = repeatable(torch.nn.functional.scaled_dot_product_attention, *given)
        found.sum().backward()
        assert told_of_chance() == (True, warned)
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only)


def test_the_way_back_multiplies_as_the_forward_pass_did() -> None:
    """Under autocast values may come in another precision than queries, and leave in it."""
    given, plain = parts(dtype=torch.float32), parts(dtype=torch.float32)
    slopes = []
    for each in (given, plain):
        with torch.autocast("cpu", torch.bfloat16):
            query, key, value = (part * 2 for part in each)
            attend = torch.nn.functional.scaled_dot_product_attention
            mixed = (query, key, value.bfloat16())
            found = repeatable(attend, *mixed) if each is given else attend(*mixed)
        slopes.append(torch.autograd.grad(found.float().square().sum(), each))
    assert found.dtype == torch.bfloat16
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*slopes, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_gives_the_same_bits_each_time(dtype: torch.dtype) -> None:
    mask = torch.ones(4, 1, 70, 70, dtype=torch.bool, device="cuda").tril()

    def attend(*given: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(*given, attn_mask=mask)

    first, *others = (
        torch.autograd.grad(repeatable(attend, *given).square().sum(), given)
        for given in (parts("cuda", dtype) for _ in range(5))
    )
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))
