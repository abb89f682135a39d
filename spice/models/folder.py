"""What a checkpoint's folder has to hold; told from names and JSON alone, in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spice.errors import InputError

QUANTISED = ("quantization_config", "compression_config")
#: what other tokenizers' files are called that transformers can turn into tokenizer.json
SLOW_TOKENIZERS = ("tokenizer.model", "spiece.model", "vocab.json", "tiktoken.model")


def check_folder(folder: Path, role: str) -> None:
    """Refuse what cannot be read as a whole, unquantised checkpoint; ``role`` is model or proxy.

    Raises:
        InputError: so it is; with the way out, where there is one.
    """
    if not folder.is_dir():
        raise InputError(f"{role}.path: no such folder: {folder}")
    _check_whole(folder, role)
    if not (folder / "config.json").is_file():
        raise InputError(f"{role}.path: {folder} has no config.json")
    config = read_object(folder / "config.json", role)
    _check_tokenizer(folder, role)
    _check_weights(folder, role)
    if "auto_map" in config:
        raise InputError(
            f"{role}.path: {folder} needs code of its own (auto_map), which is not run"
        )
    _check_unquantised(config, folder, role)
    if isinstance(config.get("text_config"), dict):
        _check_text_part(config, folder, role)
    _check_index(folder, role)


def _check_whole(folder: Path, role: str) -> None:
    """An adapter beside a model would be put into it without a word when that is loaded."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        base = read_object(adapter, role).get("base_model_name_or_path") or "its base"
        raise InputError(
            f"{role}.path: {folder} holds an adapter (adapter_config.json) and not a whole model; "
            f"merge it into {base} (peft: merge_and_unload, save_pretrained) and give that folder, "
            "or give the base alone"
        )
    if (packed := _found(folder, "*.gguf")) and not _found(folder, "*.safetensors"):
        raise InputError(
            f"{role}.path: {folder} holds {packed[0]}, and GGUF is not read; give the checkpoint "
            "with *.safetensors that it was made from"
        )


def _check_tokenizer(folder: Path, role: str) -> None:
    if (folder / "tokenizer.json").is_file():
        return
    other = next((name for name in SLOW_TOKENIZERS if (folder / name).is_file()), None)
    make = "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    way_out = f"; make it from {other} once: {make}" if other else ""
    raise InputError(f"{role}.path: {folder} has no tokenizer.json{way_out}")


def _check_weights(folder: Path, role: str) -> None:
    if _found(folder, "*.safetensors"):
        return
    pickled = _found(folder, "*.bin") + _found(folder, "*.pt*") + _found(folder, "*.ckpt")
    also = f" (it holds {pickled[0]}, which would have to be unpickled)" if pickled else ""
    raise InputError(f"{role}.path: {folder} has no *.safetensors{also}; convert it first")


def _found(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern) if path.is_file())


def _check_unquantised(config: dict[str, Any], folder: Path, role: str) -> None:
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    found = next((part[key] for part in parts for key in QUANTISED if part.get(key)), None)
    if found is None:
        return
    method = found.get("quant_method") if isinstance(found, dict) else None
    raise InputError(
        f"{role}.path: {folder} is quantised ({method or 'quantization_config'}) already, which is "
        "not read; give the checkpoint that it was made from, and quantization=4bit or 8bit beside "
        "its path, or one written back in full (transformers: model.dequantize(), save_pretrained)"
    )


def _check_text_part(config: dict[str, Any], folder: Path, role: str) -> None:
    """Of models that see and hear as well, those that transformers has as language models too."""
    from transformers.models.auto import modeling_auto

    if config.get("model_type") not in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        text = config["text_config"].get("model_type", "its language model")
        raise InputError(
            f"{role}.path: {folder} is a {config.get('model_type')}, of which transformers has no "
            f"language model to itself; save its text part ({text}) as a checkpoint of its own"
        )


def _check_index(folder: Path, role: str) -> None:
    """The one file of weights has to be there, or every file that a sharded one's index lists."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        if not (folder / "model.safetensors").is_file():
            raise InputError(f"{role}.path: {folder} has neither model.safetensors nor its index")
        return
    listed = read_object(index, role).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise InputError(f"{role}.path: {index} has no weight_map")
    for weight, name in listed.items():
        if not isinstance(name, str):
            raise InputError(f"{role}.path: {index}: {weight} must name a file, not {name}")
    missing = sorted(name for name in set(listed.values()) if not (folder / name).is_file())
    if missing:
        raise InputError(f"{role}.path: {folder} lacks {missing[0]}, which its index lists")


def read_object(path: Path, role: str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputError: there is none, or something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{role}.path: {path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{role}.path: {path} must hold a JSON object")
    return content
