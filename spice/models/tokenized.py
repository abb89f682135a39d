"""A pool as one checkpoint reads it: its tokens, what they teach, and the key of all that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spice.data.audit import MaskAudit, audit
from spice.data.rendering import Example, Renderer, refusal
from spice.data.template import Template
from spice.errors import InputError
from spice.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    from spice.data.pool import Pool


@dataclass(frozen=True)
class Tokenized:
    """The n examples of a pool under one tokenizer, template and context."""

    checkpoint: Checkpoint
    renderer: Renderer
    examples: list[Example]
    audit: MaskAudit
    #: what decides the model's view of any text: its weights, dtype and renderer
    view: dict[str, Any]

    @property
    def lengths(self) -> np.ndarray:
        """Supervised tokens of each row, n."""
        return np.array([example.supervised for example in self.examples])

    @property
    def context(self) -> int:
        """The longest sequence to be asked, in tokens: the template's where the model has none."""
        return self.checkpoint.context() or self.renderer.max_tokens

    @property
    def pad_id(self) -> int:
        """The token that fills batches up; masked everywhere."""
        return int(self.renderer.tokenizer.pad_token_id)


def renderer(checkpoint: Checkpoint, template: Template) -> Renderer:
    """How a checkpoint reads rows.

    Raises:
        InputError: its tokenizer or that one's chat template cannot be used.
    """
    try:
        return Renderer(checkpoint.tokenizer(), template, checkpoint.context())
    except InputError as error:
        told = str(error)
        raise InputError(
            told if checkpoint.path in told else f"{checkpoint.path}: {told}"
        ) from None


def tokenize(checkpoint: Checkpoint, template: Template, pool: Pool, memo: Path) -> Tokenized:
    """Render and tokenise a pool; ``memo`` is where digests of weights are kept.

    Raises:
        InputError: the chat template does not write some rows in full, and they are not skipped.
    """
    reader = renderer(checkpoint, template)
    examples, lost = reader.attempt(pool.rows)
    if lost and template.on_bad_row == "error":
        raise InputError(refusal(pool.rows, lost))
    view = {
        "weights": checkpoint.digest(memo),
        "dtype": checkpoint.dtype,
        "quantization": checkpoint.quantization,
        "renderer": reader.fingerprint(),
    }
    facts = audit(pool.rows, examples, reader, lost)
    return Tokenized(checkpoint, reader, examples, facts, view)
