"""Tiny models, tokenizers and pools, made by the tests themselves: no network, no outside file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# A busy machine is slow at times, and nothing here is about time.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")

FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 24,
    },
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma3": {"head_dim": 8, "sliding_window": 64, "layer_types": ["sliding_attention"] * 2},
}
EYES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
ALPHABET = [chr(c) for c in range(32, 127)] + ["\n"]


@pytest.fixture(scope="session")
def character_tokenizer() -> Any:
    """One token a character, so that every boundary is where the text says."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {t: i for i, t in enumerate(["<pad>", "<s>", "</s>", "<unk>", *ALPHABET])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )


@pytest.fixture(scope="session")
def make_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, character_tokenizer: Any
) -> Callable[..., Path]:
    """Write a random two-layer model of a family with the character tokenizer.

    Of mixtures of experts with four of them, of gemma3 with eyes.
    """
    made: dict[str, Path] = {}

    def make(family: str = "llama", context: int = 128, **overrides: Any) -> Path:
        key = json.dumps([family, context, overrides], sort_keys=True)
        if key not in made:
            made[key] = tmp_path_factory.mktemp(family)
            _write_checkpoint(made[key], family, context, character_tokenizer, overrides)
        return made[key]

    return make


def _write_checkpoint(
    folder: Path, family: str, context: int, tokenizer: Any, overrides: dict[str, Any]
) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **FAMILIES.get(family, {}),
        **overrides,
    }
    if family == "gemma3":
        sizes = {"text_config": sizes, "vision_config": EYES, "mm_tokens_per_image": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes))
        with torch.no_grad():  # wide enough apart for gradients that differ
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write records as JSON lines."""

    def write(records: list[Any], name: str = "pool.jsonl") -> Path:
        path = tmp_path / name
        lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture(scope="session")
def records() -> list[dict[str, str]]:
    """Forty rows of two sources, with answers of different lengths."""
    words = ["red", "green", "blue", "black", "white", "grey", "pink", "brown"]
    rows = []
    for i in range(40):
        word = words[i % 8]
        if i % 2:
            rows.append(_record(f"Add {i} and {i + 1}.", f"{2 * i + 1}", "math"))
        else:
            rows.append(
                _record(f"Say {word} {i % 5 + 1} times.", " ".join([word] * (i % 5 + 1)), "words")
            )
    return [{**row, "instruction": f"{i}. {row['instruction']}"} for i, row in enumerate(rows)]


def _record(instruction: str, response: str, source: str) -> dict[str, str]:
    return {"instruction": instruction, "input": "", "response": response, "source": source}


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real pools, benchmarks and checkpoints, where they are at hand."""
    folder = os.environ.get("SPICE_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SPICE_REAL_DATA names no folder")
    return Path(folder)


@pytest.fixture
def start(
    tmp_path: Path,
    write_jsonl: Callable[..., Path],
    records: list[dict[str, str]],
    make_checkpoint: Callable[..., Path],
) -> Callable[..., dict[str, Any]]:
    """Run the pipeline on forty rows and tiny random models; each run in a folder of its own."""
    from compose import composed
    from omegaconf import OmegaConf

    from spice.pipeline.run import plan, run

    pool = write_jsonl(records)
    common = [
        "data=jsonl",
        f"data.paths=[{pool}]",
        "proxy=local",
        f"proxy.path={make_checkpoint('llama')}",
        "model=local",
        f"model.path={make_checkpoint('qwen2')}",
        "budget=0.2",
        "benchmarks=none",
        "logger=csv",
        "trainer.progress=false",
        f"cache_dir={tmp_path / 'cache'}",
    ]
    count = iter(range(100))

    def start(*overrides: str, folder: Path | None = None) -> dict[str, Any]:
        tuning = ["finetune.epochs=1", "finetune.batch_size=4"]
        config = composed(*common, *([] if "finetune=none" in overrides else tuning), *overrides)
        config = {key: value for key, value in config.items() if key != "hydra"}
        folder = folder or tmp_path / f"run{next(count)}"
        return (plan if config["plan"] else run)(OmegaConf.create(config), folder)

    return start
