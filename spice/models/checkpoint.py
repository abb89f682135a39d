"""Checkpoints, tokenizers and LoRA: safetensors only, and no code from elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice.errors import InputError
from spice.models.attention import widen_narrow_heads
from spice.storage import disk
from spice.storage.files import short_hash
from spice.storage.seals import publish_sealed, read_sealed

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

FILES = ("*.safetensors", "*.json", "*.jinja")  # all that is ever fetched or read


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
        """Refuse what cannot be loaded, before anything costly; ``role`` is model or proxy.

        Raises:
            InputError: another dtype, or a folder without the files that are needed.
        """
        if self.dtype not in {"float32", "bfloat16", "float16"}:
            raise InputError(f"{role}.dtype={self.dtype}: must be float32, bfloat16 or float16")
        if self.is_local:
            _check_folder(self._local, role)

    def folder(self) -> Path:
        """The folder with the files, downloaded from the hub if need be.

        Raises:
            InputError: the hub does not give them, or gives too few.
        """
        if self.is_local:
            return self._local
        from huggingface_hub import snapshot_download

        try:
            found = snapshot_download(self.path, revision=self.revision, allow_patterns=list(FILES))
        except Exception as error:
            raise InputError(
                f"{self.path} cannot be fetched: {_first_line(error)}. With the files on disk, "
                "use model=local model.path=FOLDER"
            ) from error
        _check_folder(Path(found), self.path)
        return Path(found)

    def config(self) -> PretrainedConfig:
        """The model's configuration, read from its files.

        Raises:
            InputError: transformers makes nothing of it.
        """
        from transformers import AutoConfig

        folder = self.folder()
        try:
            return AutoConfig.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:
            raise InputError(
                f"{folder}/config.json is of no use to transformers: {_first_line(error)}"
            ) from error

    def context(self) -> int:
        """The longest sequence that the model was made for, in tokens.

        Raises:
            InputError: the configuration does not say.
        """
        context = getattr(self.config(), "max_position_embeddings", None)
        if not isinstance(context, int) or context < 1:
            raise InputError(f"{self.path}: config.json has no max_position_embeddings")
        return context

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer exactly as its files say.

        Not through AutoTokenizer: beside a Qwen2 configuration that one rebuilds Qwen2's own
        tokenizer and ignores the files. A missing pad token is stood in for by the end token;
        nothing here tells padding by its id.

        Raises:
            InputError: the files cannot be read, or have tokens that the model has not.
        """
        from transformers import PreTrainedTokenizerFast

        folder = self.folder()
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        except Exception as error:
            raise InputError(
                f"{folder}/tokenizer.json cannot be read: {_first_line(error)}"
            ) from error
        last, size = max(tokenizer.get_vocab().values()), self.config().vocab_size
        if last >= size:
            raise InputError(
                f"{folder}: the tokenizer has a token {last}, the model only {size} (0 to "
                f"{size - 1}); these files do not belong together"
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "right"
        return tokenizer

    def load(self) -> PreTrainedModel:
        """The model in evaluation mode, on the CPU, in ``dtype``.

        Raises:
            InputError: transformers cannot load it, or a weight has another shape or is missing: it
                would be drawn at random.
        """
        import torch
        from transformers import AutoModelForCausalLM

        folder = self.folder()
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=getattr(torch, self.dtype),
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # the report has them
                output_loading_info=True,
            )
        except (ValueError, KeyError, OSError) as error:  # such as an architecture without a head
            raise InputError(f"{folder} cannot be loaded: {_first_line(error)}") from error
        model, report = loaded
        absent, misshapen = sorted(report["missing_keys"]), sorted(report["mismatched_keys"])
        if absent:
            raise InputError(f"{folder} lacks the weight {absent[0]}, which config.json asks for")
        if misshapen:
            name, found, wanted = misshapen[0]
            raise InputError(
                f"{folder}: the weight {name} is {list(found)}, config.json asks for {list(wanted)}"
            )
        widen_narrow_heads(model)
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
        long as no file's size or time of change differs (both of its times: archives and ``cp -p``
        put the first one back).

        Raises:
            InputError: a weight is not finite, or ``memo`` cannot be written.
        """
        folder = self.folder().resolve()
        files = sorted(path for pattern in FILES for path in folder.glob(pattern))
        stats = [(str(path), *_identity(path)) for path in files]
        record = memo / f"{short_hash(json.dumps(stats).encode())}.json"
        if (known := read_sealed(record)) is not None:
            return json.loads(known)["digest"]
        _check_finite(folder)
        total = hashlib.sha256()
        for path in files:
            with path.open("rb") as file:
                total.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
        digest = total.hexdigest()[:16]
        _remember(record, digest, folder)
        return digest


def _check_folder(folder: Path, role: str) -> None:
    if not folder.is_dir():
        raise InputError(f"{role}.path: no such folder: {folder}")
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(f"{role}.path: {folder} has no {name}")
    if not any(path.is_file() for path in folder.glob("*.safetensors")):
        pickled = sorted(p.name for p in folder.glob("*.bin")) + sorted(
            p.name for p in folder.glob("*.pt*")
        )
        also = f" (it holds {pickled[0]}, which would have to be unpickled)" if pickled else ""
        raise InputError(f"{role}.path: {folder} has no *.safetensors{also}; convert it first")
    if "auto_map" in _read_json(folder / "config.json", role):
        raise InputError(
            f"{role}.path: {folder} needs code of its own (auto_map), which is not run"
        )
    _check_index(folder, role)


def _check_index(folder: Path, role: str) -> None:
    """The one file of weights has to be there, or every file that a sharded one's index lists."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        if not (folder / "model.safetensors").is_file():
            raise InputError(f"{role}.path: {folder} has neither model.safetensors nor its index")
        return
    listed = _read_json(index, role).get("weight_map")
    if not isinstance(listed, dict):
        raise InputError(f"{role}.path: {index} has no weight_map")
    missing = sorted(name for name in set(listed.values()) if not (folder / name).is_file())
    if missing:
        raise InputError(f"{role}.path: {folder} lacks {missing[0]}, which its index lists")


def _read_json(path: Path, role: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{role}.path: {path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{role}.path: {path} must hold a JSON object")
    return content


def _remember(record: Path, digest: str, folder: Path) -> None:
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        told = json.dumps({"digest": digest, "folder": str(folder)}, ensure_ascii=False)
        publish_sealed(record, lambda path: path.write_text(told, encoding="utf-8"))
    except OSError as error:
        why = disk.why(error.errno, record.parent)
        raise InputError(f"cache_dir: {record.parent} cannot be written: {why}") from error


def _identity(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


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
