"""A pool as one checkpoint reads it: its tokens, what they teach, and the key of all that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spice.data.audit import MaskAudit, audit
from spice.data.rendering import Example, Renderer, refusal
from spice.data.template import Template
from spice.data.token_table import Packed, TokenTable, supervised, write_table
from spice.data.tokenising import lost_rows, tokenise
from spice.distributed.helpers import cores
from spice.errors import InputError
from spice.models.checkpoint import Checkpoint
from spice.storage.closure import code_version, library_versions
from spice.storage.files import read_json, short_hash, write_json

if TYPE_CHECKING:
    from spice.data.pool import Pool

CODE = ("spice.data.rendering", "spice.data.tokenising", "spice.data.audit")
AUDIT = "audit.json"

#: makes the stage of a key, or finds it; gives its folder
Keep = Callable[[dict[str, Any], Callable[[Path], None]], Path]


@dataclass(frozen=True)
class Tokenized:
    """The n examples of a pool under one tokenizer, template and context."""

    checkpoint: Checkpoint
    renderer: Renderer
    examples: Sequence[Example]
    audit: MaskAudit
    #: what decides the model's view of any text: its weights, dtype and renderer
    view: dict[str, Any]

    @property
    def lengths(self) -> np.ndarray:
        """Supervised tokens of each row, n."""
        return supervised(self.examples)

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


def tokenize(
    checkpoint: Checkpoint, template: Template, pool: Pool, memo: Path, keep: Keep | None = None
) -> Tokenized:
    """Render and tokenise a pool; ``memo`` is where digests of weights are kept.

    ``keep`` makes a stage of the tokens or finds it, and gives its folder; without it they stay in
    memory.

    Raises:
        InputError: the chat template does not write some rows in full, and they are not skipped.
    """
    reader = renderer(checkpoint, template)
    view = {
        "weights": checkpoint.digest(memo),
        "dtype": checkpoint.dtype,
        "quantization": checkpoint.quantization,
        "renderer": reader.fingerprint(),
    }
    examples: Sequence[Example]
    if keep is None:
        examples, lost = reader.attempt(pool.rows)
        facts = audit(pool.rows, examples, reader, lost)
    else:
        folder = keep(key(pool, reader), partial(_write, checkpoint, template, pool, reader))
        examples = TokenTable(folder)
        facts = MaskAudit(**read_json(folder / AUDIT))
    if facts.lost_rows and template.on_bad_row == "error":
        places = {row.id: i for i, row in enumerate(pool.rows) if row.id in facts.lost_rows}
        lost = {places[name]: why for name, why in facts.lost_rows.items()}
        raise InputError(refusal(pool.rows, lost))
    return Tokenized(checkpoint, reader, examples, facts, view)


def key(pool: Pool, reader: Renderer) -> dict[str, Any]:
    """What decides a pool's tokens: rows, template and tokenizer, whatever model is behind it."""
    return {
        "data": pool.digest(),
        "renderer": reader.fingerprint(),
        "tokenizer": tokenizer_digest(reader.tokenizer),
        "code": code_version(*CODE),
        "versions": library_versions(*CODE),
    }


def tokenizer_digest(tokenizer: Any) -> str:
    """A hash of all that decides what a tokenizer makes of a text."""
    marks = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    told = [tokenizer.backend_tokenizer.to_str(), marks, tokenizer.chat_template]
    return short_hash(json.dumps(told, sort_keys=True).encode())


def _write(
    checkpoint: Checkpoint, template: Template, pool: Pool, reader: Renderer, folder: Path
) -> None:
    """Tokenise into a stage's folder, on all cores that this process may use."""
    told: list[dict[int, str]] = []

    def tokens() -> Iterator[Packed]:
        make = partial(renderer, checkpoint, template)
        for part in tokenise(pool.rows, reader, make, cores()):
            told.append(part.lost)
            yield part.tokens

    write_table(folder, tokens())
    facts = audit(pool.rows, TokenTable(folder), reader, lost_rows(told))
    write_json(folder / AUDIT, facts.as_dict())
