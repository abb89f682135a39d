"""The pool as each model of a run reads it, tokenised once and audited."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice.messages import say, warn
from spice.models.tokenized import Keep, Tokenized, tokenize
from spice.reporting.lines import audit_line
from spice.storage.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from spice.data.audit import MaskAudit
    from spice.data.pool import Pool
    from spice.data.template import Template
    from spice.models.checkpoint import Checkpoint
    from spice.pipeline.ledger import Ledger

SHOWN = 3  # rows that are not written


@dataclass
class Readings:
    """Tokenised pools by the role of their checkpoint; ``audit.json`` in ``folder`` tells of each.

    ``memo`` is where digests of weights are kept, ``keep`` makes stages of a role's tokens. All
    other time is charged to the pool.
    """

    pool: Pool
    template: Template
    folder: Path
    memo: Path
    ledger: Ledger
    keep: Callable[[str], Keep]
    _read: dict[str, Tokenized] = field(default_factory=dict)

    def begin(self) -> None:
        """Write what is known of the pool before any model has read it."""
        write_json(self.folder / "audit.json", self.pool.report())

    def of(self, role: str, checkpoint: Checkpoint) -> Tokenized:
        """The pool as a checkpoint reads it; ``role`` is proxy, model or a name of its own."""
        if role not in self._read:
            with self.ledger.timed("pool"):
                self._read[role] = self._tokenize(role, checkpoint)
        return self._read[role]

    def audits(self) -> dict[str, dict[str, Any]]:
        """What was lost of the pool, by the role of the model that reads it, where something was.

        Counts of rows and answers, and how many rows are not written for what reason.
        """
        counted = ("truncated_rows", "unsupervised_rows", "cut_answers", "lost_rows")
        found = {}
        for role, tokenized in self._read.items():
            facts = tokenized.audit.as_dict()
            if any(facts[name] for name in counted):
                reasons = dict(Counter(facts["lost_rows"].values()).most_common(SHOWN))
                found[role] = {**facts, "lost_rows": len(facts["lost_rows"]), "reasons": reasons}
        return found

    def _tokenize(self, role: str, checkpoint: Checkpoint) -> Tokenized:
        found = tokenize(checkpoint, self.template, self.pool, self.memo, self.keep(role))
        path = self.folder / "audit.json"
        known = read_json(path) if path.is_file() else self.pool.report()
        write_json(path, {**known, role: found.audit.as_dict()})
        say("audit", audit_line(role, found.audit))
        self._warn(role, found.audit)
        return found

    def _warn(self, role: str, audit: MaskAudit) -> None:
        lost = audit.lost_rows
        if lost:
            few = "; ".join(f"{row}: {why}" for row, why in list(lost.items())[:SHOWN])
            warn("audit", f"{len(lost)} rows skipped for the {role}, listed in audit.json: {few}")
        if empty := audit.unsupervised_rows - len(lost):
            left_out = f"{empty} rows leave the {role} nothing to learn from"
            why = "their prompts fill its tokens, or none of their answers is to be learnt"
            warn("audit", f"{left_out}: {why}; listed in audit.json")
