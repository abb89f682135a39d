"""Checkpoints, tokenizers and LoRA: safetensors only, and no code from elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice.errors import InputError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

FILES = ("*.safetensors", "*.json", "*.jinja")  # all that is ever fetched or read


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters W + (α/r)·B·A on linear layers; B starts at zero (arXiv 2106.09685)."""

    r: int
    alpha: int
    dropout: float
    targets: str | tuple[str, ...]

    def __post_init__(self) -> None:
        if self.r < 1:
            raise InputError(f"lora.r={self.r}: must be at least 1")
        if not 0 <= self.dropout < 1:
            raise InputError(f"lora.dropout={self.dropout}: must be in [0, 1)")

    def attach(self, model: PreTrainedModel, seed: int) -> PeftModel:
        """Freeze the model and add trainable adapters, A drawn from ``seed``."""
        import torch
        from peft import LoraConfig, get_peft_model

        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return get_peft_model(model, config)


@dataclass(frozen=True)
class Checkpoint:
    """A pretrained model in Hugging Face's layout: a local folder, or a name on the hub.

    ``architecture`` is the model's configuration where it is known without its files: it lets
    sizes be computed and configurations be tested before anything is downloaded.
    """

    path: str
    dtype: str
    revision: str | None = None
    architecture: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", str(self.path))  # a folder may be named 7 or nan

    @property
    def is_local(self) -> bool:
        """Whether ``path`` is meant as a folder: it exists, or cannot be a name on the hub."""
        looks_like_path = self.path.startswith(("/", ".", "~")) or self.path.count("/") != 1
        return self._local.is_dir() or looks_like_path

    @property
    def _local(self) -> Path:
        return Path(self.path).expanduser()

    def check(self, role: str) -> None:
        """Refuse what cannot be loaded, before anything costly; ``role`` is model or proxy."""
        if self.dtype not in {"float32", "bfloat16", "float16"}:
            raise InputError(f"{role}.dtype={self.dtype}: must be float32, bfloat16 or float16")
        if self.is_local:
            _check_folder(self._local, role)

    def folder(self) -> Path:
        """The folder with the files, downloaded from the hub if need be."""
        if self.is_local:
            return self._local
        from huggingface_hub import snapshot_download

        try:
            found = snapshot_download(self.path, revision=self.revision, allow_patterns=list(FILES))
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{self.path} cannot be fetched: {reason}. With the files on disk, "
                "use model=local model.path=FOLDER"
            ) from error
        _check_folder(Path(found), self.path)
        return Path(found)

    def config(self) -> PretrainedConfig:
        """The model's configuration, read from its files."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.folder(), trust_remote_code=False)

    def context(self) -> int:
        """The longest sequence that the model was made for, in tokens."""
        return int(self.config().max_position_embeddings)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer exactly as its files say.

        Not through AutoTokenizer: beside a Qwen2 configuration that one rebuilds Qwen2's own
        tokenizer and ignores the files. A missing pad token is stood in for by the end token;
        nothing here tells padding by its id.
        """
        from transformers import PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast.from_pretrained(self.folder())
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "right"
        return tokenizer

    def load(self) -> PreTrainedModel:
        """The model in evaluation mode, on the CPU, in ``dtype``."""
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(
            self.folder(),
            dtype=getattr(torch, self.dtype),
            use_safetensors=True,
            trust_remote_code=False,
        )
        return model.eval()

    def skeleton(self) -> PreTrainedModel:
        """The model without weights (on the meta device), from ``architecture`` alone."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.for_model(**self.architecture) if self.architecture else self.config()
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, self.dtype))

    def digest(self, memo: Path) -> str:
        """A hash of all files that decide what the model computes; refuses weights with NaN.

        Reading many gigabytes twice a day is dear, so the answer is kept under ``memo`` for as
        long as no file's size or time of change differs.
        """
        folder = self.folder().resolve()
        files = sorted(path for pattern in FILES for path in folder.glob(pattern))
        stats = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
        record = memo / f"{hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16]}.json"
        if record.is_file():
            return json.loads(record.read_text())["digest"]
        _check_finite(folder)
        total = hashlib.sha256()
        for path in files:
            with path.open("rb") as file:
                total.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
        digest = total.hexdigest()[:16]
        memo.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"digest": digest, "folder": str(folder)}))
        return digest


def sandbox(name: str, dtype: str) -> Checkpoint:
    """A base model of the embedded sandbox: ``proxy``, ``target`` or ``qwen``."""
    from spice.sandbox import checkpoint

    return Checkpoint(str(checkpoint(name)), dtype)


def device(accelerator: str) -> str:
    """The torch device behind Lightning's ``trainer.accelerator``."""
    import torch

    if accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available():
        return "cuda"
    return "cpu"


def _check_folder(folder: Path, role: str) -> None:
    if not folder.is_dir():
        raise InputError(f"{role}.path: no such folder: {folder}")
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(f"{role}.path: {folder} has no {name}")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(p.name for p in folder.glob("*.bin")) + sorted(
            p.name for p in folder.glob("*.pt*")
        )
        also = f" (it holds {pickled[0]}, which would have to be unpickled)" if pickled else ""
        raise InputError(f"{role}.path: {folder} has no *.safetensors{also}; convert it first")
    config = json.loads((folder / "config.json").read_text())
    if "auto_map" in config:
        raise InputError(
            f"{role}.path: {folder} needs code of its own (auto_map), which is not run"
        )
    _check_index(folder, role)


def _check_index(folder: Path, role: str) -> None:
    """Every file that a sharded checkpoint lists has to be there."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        listed = set(json.loads(index.read_text())["weight_map"].values())
        missing = sorted(name for name in listed if not (folder / name).is_file())
        if missing:
            raise InputError(f"{role}.path: {folder} lacks {missing[0]}, which its index lists")


def _check_finite(folder: Path) -> None:
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (not a dict)
                    if not file.get_tensor(name).isfinite().all():
                        raise InputError(f"{path}: the weight {name} holds NaN or infinite values")
        except SafetensorError as error:
            raise InputError(f"{path}: not a readable safetensors file: {error}") from error
