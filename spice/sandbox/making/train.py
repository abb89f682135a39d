"""Bring up the sandbox's base models.

    python -m spice.sandbox.making.train [name …] --to FOLDER

One thread and fixed seeds, so that the same versions on the same kind of machine make the same
weights. They are written in float16 as safetensors, with the tokenizer beside them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from spice.sandbox import CHECKPOINTS
from spice.sandbox.making import tokenizer as tokenizers
from spice.sandbox.making.corpus import RAW, documents

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

CONTEXT = 256
ROPE_THETA = 100.0  # the usual 10,000 is for contexts of thousands of tokens
PROMPT_WEIGHT = 0.1  # names and numbers in prompts cannot be foreseen: their loss is mostly noise
SHAPES: dict[str, dict[str, Any]] = {
    "proxy": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3},
    "target": {"hidden_size": 112, "intermediate_size": 264, "num_hidden_layers": 4},
    "qwen": {"hidden_size": 72, "intermediate_size": 160, "num_hidden_layers": 3},
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps of ``batch`` documents at a learning rate that warms up and falls to nothing.

    The first ``drill`` of them see raw exercises only: abilities come first, manners later.
    """

    steps: int
    drill: float = 0.5
    batch: int = 32
    lr: float = 6e-3
    warmup: float = 0.03


SCHEDULES = {"proxy": Schedule(2000), "target": Schedule(2200), "qwen": Schedule(1600)}


def build(name: str, vocabulary: int, bos: int | None, eos: int, pad: int) -> PreTrainedModel:
    """An untrained model of one of the three shapes."""
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

    family: Any = Qwen2Config if name == "qwen" else LlamaConfig
    config = family(
        vocab_size=vocabulary,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=pad,
        **SHAPES[name],
    )
    return AutoModelForCausalLM.from_config(config)


def batches(
    tokenizer: PreTrainedTokenizerFast, size: int, seed: int, raw: float = RAW, chunk: int = 16
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids (b × t) and loss weights (b × t); rows of like length share a batch."""
    rng = Random(seed)
    stream = documents(rng, raw)
    while True:
        drawn = list(islice(stream, size * chunk))
        prompts = tokenizer([d.prompt for d in drawn], add_special_tokens=False)["input_ids"]
        responses = tokenizer([d.response for d in drawn], add_special_tokens=False)["input_ids"]
        head = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        rows = [
            (head + p, [*r, tokenizer.eos_token_id])
            for p, r in zip(prompts, responses, strict=True)
        ]
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        order = list(range(chunk))
        rng.shuffle(order)
        for position in order:
            yield _collate(rows[position * size : (position + 1) * size], tokenizer.pad_token_id)


def _collate(
    rows: list[tuple[list[int], list[int]]], pad: int
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    longest = max(len(prompt) + len(response) for prompt, response in rows)
    ids = torch.full((len(rows), longest), pad)
    weights = torch.zeros(len(rows), longest)
    for place, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        ids[place, :end] = torch.tensor(prompt + response)
        weights[place, : len(prompt)] = PROMPT_WEIGHT
        # Short answers would drown among long ones if every token weighed the same.
        weights[place, len(prompt) : end] = len(response) ** -0.5
    return ids, weights


def fit(model: PreTrainedModel, stream: Iterator[Any], schedule: Schedule) -> None:
    """Muon for the layers' matrices, AdamW for the rest, linear warm-up and decay."""
    import torch

    from spice.sandbox.making.muon import Muon  # keeps torch out of start-up

    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        Muon(matrices, lr=schedule.lr),
        torch.optim.AdamW(rest, lr=schedule.lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]
    schedulers = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda step: _pace(step, schedule)) for o in optimizers
    ]
    began, smooth = time.perf_counter(), 0.0
    for step, (ids, weights) in enumerate(islice(stream, schedule.steps)):
        loss = weighted_loss(model, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for scheduler in schedulers:
            scheduler.step()
        smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
        if step % 250 == 249:
            print(
                f"step {step + 1} loss {smooth:.3f} {time.perf_counter() - began:.0f} s", flush=True
            )


def _pace(step: int, schedule: Schedule) -> float:
    warm = max(1, int(schedule.warmup * schedule.steps))
    return min((step + 1) / warm, max(0.0, (schedule.steps - step) / (schedule.steps - warm)))


def weighted_loss(model: PreTrainedModel, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss, a scalar, of ``ids`` b × t under ``weights`` b × t.

    Attention is causal, so padding behind is inert.
    """
    from torch.nn.functional import cross_entropy

    logits = model(input_ids=ids).logits[:, :-1]
    losses = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    chosen = weights[:, 1:].flatten()
    return (losses * chosen).sum() / chosen.sum()


def make(name: str, folder: Path, schedule: Schedule, seed: int = 0) -> None:
    """Train one model and save it to ``folder``; another ``seed`` makes another of its kind."""
    import torch
    from transformers import GenerationConfig

    torch.set_num_threads(1)
    weights_seed, corpus_seed, chat_seed = _seeds(name, seed)
    torch.manual_seed(weights_seed)
    tokenizer = tokenizers.pieces() if name == "qwen" else tokenizers.words()
    ids = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    model = build(name, len(tokenizer), *ids)
    drill = int(schedule.drill * schedule.steps)
    stream = chain(
        islice(batches(tokenizer, schedule.batch, corpus_seed, raw=1.0), drill),
        batches(tokenizer, schedule.batch, chat_seed),
    )
    fit(model, stream, schedule)
    model.generation_config = GenerationConfig(
        bos_token_id=ids[0], eos_token_id=ids[1], pad_token_id=ids[2]
    )
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _seeds(name: str, seed: int) -> list[int]:
    """Seeds of the weights, the raw drill and the rest: no two models share one."""
    rng = Random(f"{name} {seed}")
    return [rng.getrandbits(32) for _ in range(3)]


def main() -> None:
    """Train the named models, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=CHECKPOINTS, metavar="name")
    parser.add_argument("--to", type=Path, required=True, metavar="folder")
    parser.add_argument("--seed", type=int, default=0, help="0 makes those that are shipped")
    arguments = parser.parse_args()
    for name in arguments.names:
        make(name, arguments.to / name, SCHEDULES[name], arguments.seed)


if __name__ == "__main__":
    main()
