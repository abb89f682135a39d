"""Checkpoints, tokenizers and LoRA: safetensors only, and no code from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spice.distributed import team
from spice.errors import InputError
from spice.models import quantization
from spice.models.dividing import load_divided
from spice.models.folder import check_folder
from spice.models.memory import hand_back_what_is_freed
from spice.models.quantization import Quantization
from spice.models.weights import FILES, digest_of
from spice.models.whole_weights import multiply_whole
from spice.values import FilePath, Name, component

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

Dtype = Literal["float32", "bfloat16", "float16"]


@component
class Checkpoint:
    """A pretrained model in Hugging Face's layout: a local folder, or a name on the hub.

    ``architecture`` is the model's configuration where it is known without its files: it lets
    sizes be computed and configurations be tested before anything is downloaded. With
    ``quantization`` the linear layers are rounded to so few bits when they are loaded.
    """

    path: FilePath
    dtype: Dtype
    revision: Name | None = None
    architecture: Mapping[str, Any] = field(default_factory=dict)
    quantization: Quantization | None = None

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
            InputError: a folder without the files that are needed, or bits that cannot be computed.
        """
        if self.is_local:
            check_folder(self._local, role)
        quantization.check(self.quantization, role)

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
            raise _out_of_reach(self.path, error) from error
        check_folder(Path(found), self.path)
        return Path(found)

    def at_hand(self) -> bool:
        """Whether the files are on this machine; nothing is downloaded.

        Raises:
            InputError: they are not, and the hub does not have them to give.
        """
        if self.is_local:
            return True
        return _downloaded(self.path, self.revision)

    def config(self) -> PretrainedConfig:
        """The language model's configuration, read from its files.

        Raises:
            InputError: transformers makes nothing of it.
        """
        from transformers import AutoConfig

        folder = self.folder()
        try:
            return AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
        except Exception as error:
            raise InputError(
                f"{folder}/config.json is of no use to transformers: {_first_line(error)}"
            ) from error

    def context(self) -> int | None:
        """The longest sequence that the model was made for, in tokens; None where there is no end.

        Raises:
            InputError: the configuration says nonsense.
        """
        context = getattr(self.config(), "max_position_embeddings", None)
        if context is not None and (not isinstance(context, int) or context < 2):
            raise InputError(
                f"{self.path}: config.json has max_position_embeddings={context}: must be at least "
                "2, a prompt and its answer"
            )
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
        """The model in evaluation mode, in ``dtype``, on the CPU.

        With ``quantization`` it is on the GPU if there is one, where it never was in full. Where
        processes divide models, it is this one's part, on its device; all have to load it at once.

        Raises:
            InputError: as :meth:`outline`.
        """
        if team.is_divided():
            return load_divided(self)
        return self.whole()

    def whole(self) -> PreTrainedModel:
        """The same, whole on this process.

        Raises:
            InputError: as :meth:`outline`.
        """
        from spice.models.attention import prepare_attention  # keeps torch out of start-up

        hand_back_what_is_freed()
        options: dict[str, Any] = {}
        if self.quantization:
            options["quantization_config"] = quantization.config(self.quantization, self.dtype)
        model = _read(self.folder(), self.dtype, **options)
        prepare_attention(model)
        if self.quantization:
            multiply_whole(model)
        return model.eval()

    def outline(self) -> PreTrainedModel:
        """The model as :meth:`load` would make it, without a weight read (on the meta device).

        Raises:
            InputError: transformers cannot load it, or a weight has another shape, is missing (it
                would be drawn at random), or is of a layer that the configuration leaves out.
        """
        return _read(self.folder(), self.dtype, device_map="meta")

    def skeleton(self) -> PreTrainedModel:
        """The model without weights (on the meta device), from ``architecture`` alone."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.for_model(**self.architecture) if self.architecture else self.config()
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, self.dtype))

    def digest(self, memo: Path) -> str:
        """The hash of what the model computes with (:func:`spice.models.weights.digest_of`)."""
        return digest_of(self.folder().resolve(), memo)


def _downloaded(name: str, revision: str | None) -> bool:
    """Whether a model of the hub is on this machine; the hub is asked for one that is not."""
    from huggingface_hub import HfApi, snapshot_download

    try:
        snapshot_download(
            name, revision=revision, allow_patterns=list(FILES), local_files_only=True
        )
        return True
    except Exception:  # not whole on this machine
        try:
            HfApi().model_info(name, revision=revision, timeout=10)
        except Exception as error:
            raise _out_of_reach(name, error) from error
    return False


def _out_of_reach(name: str, error: Exception) -> InputError:
    return InputError(
        f"{name} cannot be fetched: {_first_line(error)}. With the files on disk, "
        "use model=local model.path=FOLDER"
    )


def _read(folder: Path, dtype: str, **options: Any) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            **options,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # the report has them
            output_loading_info=True,
        )
    except Exception as error:  # no such architecture, half an expert, a damaged file
        raise InputError(f"{folder} cannot be loaded: {_first_line(error)}") from error
    model, report = loaded
    _check_report(model, report, folder)
    return model


def _check_report(model: PreTrainedModel, report: dict[str, Any], folder: Path) -> None:
    """What transformers says of the weights: all there, of the right shape, and none of more."""
    if absent := sorted(report["missing_keys"]):
        raise InputError(f"{folder} lacks the weight {absent[0]}, which config.json asks for")
    if misshapen := sorted(report["mismatched_keys"]):
        name, found, wanted = misshapen[0]
        raise InputError(
            f"{folder}: the weight {name} is {list(found)}, config.json asks for {list(wanted)}"
        )
    alike = {_unnumbered(name) for name, _ in model.named_parameters()}
    if more := sorted(name for name in report["unexpected_keys"] if _unnumbered(name) in alike):
        raise InputError(
            f"{folder} has the weight {more[0]}, of a layer that config.json does not ask for; "
            "these files do not belong together"
        )


def _unnumbered(name: str) -> str:
    """A weight's name with its layer left open."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
