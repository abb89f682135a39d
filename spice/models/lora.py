"""Low-rank adapters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from spice.errors import InputError, did_you_mean
from spice.models.checkpoint import _first_line
from spice.models.recompute import decoder_layers
from spice.values import Count, Name, Part, Some, Told, component

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import nn
    from transformers import PreTrainedModel

    from spice.models.checkpoint import Checkpoint

ALL = "all-linear"
EXPERTS = "experts"  # what transformers calls the layers between which a router divides tokens
SHOWN = 12  # names of layers in a message


@component
class Lora:
    """Low-rank adapters W + (α/r)·B·A on linear layers; B starts at zero (arXiv 2106.09685).

    ``targets`` are names of layers, the ends of names, a regular expression for whole names, or
    ``all-linear``: all of the language model's but its head. Of the decoder's layers only the last
    ``layers`` have adapters, so that a backward pass ends there; without a number all of them.

    Raises:
        InputError: an option outside its range.
    """

    r: Count
    alpha: Count
    dropout: Part
    targets: Annotated[Name | Some, Told("must be a name or a list of names")]
    layers: Count | None = None

    def attach(self, model: PreTrainedModel, seed: int) -> PeftModel:
        """Freeze the model and add trainable adapters, A drawn from ``seed``.

        Raises:
            InputError: ``targets`` names what is not there, is no linear layer, or sees some of a
                row's tokens only; or there are fewer than ``layers``.
        """
        import torch
        from peft import LoraConfig, get_peft_model

        self._check_targets(model)
        config = LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self._targets,
            exclude_modules=_without_adapter(model, self._frozen(model)),
            task_type="CAUSAL_LM",
        )
        linear = linear_layers(model, self._frozen(model))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            try:
                adapted = get_peft_model(model, config)
            except ValueError as error:  # of stacked experts, that there is dropout
                if config.target_parameters:
                    raise self._divided(linear) from error
                raise InputError(f"lora.targets={self._said}: {_first_line(error)}") from error
        if config.target_parameters or any(EXPERTS in name.split(".") for name in on(adapted)):
            raise self._divided(linear)
        return adapted

    def put_on(self, checkpoint: Checkpoint, seed: int) -> PeftModel:
        """:meth:`attach` to a model that is loaded for it, as each process does."""
        return self.attach(checkpoint.load(), seed)

    @property
    def _targets(self) -> str | list[str]:
        return self.targets if isinstance(self.targets, str) else list(self.targets)

    @property
    def _said(self) -> str:
        return self.targets if isinstance(self.targets, str) else f"[{','.join(self.targets)}]"

    def _frozen(self, model: PreTrainedModel) -> list[str]:
        """The names of the decoder's layers below the last ``layers``."""
        if self.layers is None:
            return []
        names: dict[Any, str] = {module: name for name, module in model.named_modules()}
        found = [names[layer] for layer in decoder_layers(model)]
        if self.layers > len(found):
            raise InputError(f"lora.layers={self.layers}: the model has {len(found)} layers")
        return found[: -self.layers]

    def _check_targets(self, model: PreTrainedModel) -> None:
        """Every target has to name linear layers, and nothing else that an adapter could be on."""
        if self.targets == ALL:
            return
        linear = linear_layers(model, self._frozen(model))
        embedding = _embeddings(model)
        if not self.targets:
            raise InputError(f"lora.targets={self._said}: names no layer. {_there_are(linear)}")
        for target in [self.targets] if isinstance(self.targets, str) else self.targets:
            if found := [name for name in embedding if self._names(target, name)]:
                raise InputError(
                    f"lora.targets={self._said}: {found[0]} is an embedding, and adapters go on "
                    f"linear layers. {_there_are(linear)}"
                )
            if not any(self._names(target, name) for name in linear):
                raise InputError(
                    f"lora.targets={self._said}: no linear layer is called {target}."
                    f"{self._meant(target, linear)} {_there_are(linear)}"
                )

    def _meant(self, target: str, linear: list[str]) -> str:
        leaves = _leaves(linear)
        if not isinstance(self.targets, str):
            return did_you_mean(target, leaves)
        if target in leaves:
            return f" A pattern is for whole names; the ends of names go in a list: [{target}]."
        return did_you_mean(target, [ALL, *leaves])

    def _names(self, target: str, name: str) -> bool:
        """Whether a target means a layer, as peft sees it."""
        if not isinstance(self.targets, str):
            return name == target or name.endswith(f".{target}")
        try:
            return re.fullmatch(target, name) is not None
        except re.error as error:
            raise InputError(
                f"lora.targets={target}: no regular expression ({error}); names of layers go in a "
                "list, as in lora.targets=[q_proj,v_proj]"
            ) from error

    def _divided(self, linear: list[str]) -> InputError:
        """What is said of layers between which a router divides tokens."""
        attention = [name for name in linear if "attn" in name or "attention" in name]
        way_out = f"; lora.targets=[{','.join(_leaves(attention))}] works" if attention else ""
        return InputError(
            f"lora.targets={self._said}: that is on the experts between which a router divides "
            f"the tokens of each row, where gradients cannot be told by row{way_out}"
        )


def linear_layers(model: PreTrainedModel, below: Sequence[str] = ()) -> list[str]:
    """The names of a language model's linear layers, its head's last; ``below`` are left out."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    excluded = re.compile(_without_adapter(model, below) or r"(?!)")
    return [name for name, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and not excluded.fullmatch(name)]  # fmt: skip


def _without_adapter(model: PreTrainedModel, below: Sequence[str]) -> str | None:
    """A pattern for what no adapter goes on; None where it may go on everything."""
    beside = _beside_the_language_model(model)
    frozen = rf"(?:{'|'.join(map(re.escape, below))})(?:\..*)?" if below else None
    return "|".join(pattern for pattern in (beside, frozen) if pattern) or None


def _beside_the_language_model(model: PreTrainedModel) -> str | None:
    """A pattern for what else a model has, such as eyes; None for a language model alone."""
    names: dict[Any, str] = {module: name for name, module in model.named_modules()}
    decoder = names.get(model.get_decoder(), "")
    if "." not in decoder:
        return None
    head = names.get(model.get_output_embeddings(), decoder)
    return rf"(?!{re.escape(decoder)}(\.|$)|{re.escape(head)}$).*"


def _embeddings(model: PreTrainedModel) -> list[str]:
    from torch import nn

    return [name for name, module in model.named_modules() if isinstance(module, nn.Embedding)]


def on(model: nn.Module) -> list[str]:
    """The names of the layers that adapters are on."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]


def without(model: nn.Module) -> str | None:
    """What is said of a mixture of experts, on whose routed ones no adapter can be."""
    found = [name for name, _ in model.named_modules() if name.split(".")[-1] == EXPERTS]
    if not found:
        return None
    return (
        f"the routed experts of {len(found)} layers have no adapter and stay as they are: they are "
        "no linear layers that see every token"
    )


def _leaves(names: list[str]) -> list[str]:
    """The last parts of names, each once."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))


def _there_are(linear: list[str]) -> str:
    leaves = _leaves(linear)
    more = f" and {len(leaves) - SHOWN} more" if len(leaves) > SHOWN else ""
    return f"There are {', '.join(leaves[:SHOWN])}{more}"
