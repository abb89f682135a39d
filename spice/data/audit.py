"""What a renderer made of a pool, counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spice.data.rendering import Example, Renderer
from spice.data.row_table import ids_of
from spice.records import Row


@dataclass(frozen=True)
class MaskAudit:
    """What the renderer did to a pool; printed and saved with each run.

    Of the ``answers`` of all rows that are written, ``supervised_answers`` are learnt at least in
    part; ``untaught_answers`` are exempted by their row or by ``template.supervise``, and
    ``cut_answers`` did not fit. ``lost_rows`` says by id why a row is not written.
    """

    rows: int
    tokens: int
    supervised_tokens: int
    truncated_rows: int
    unsupervised_rows: int
    unsupervised_ids: list[str]
    exact_duplicates: int
    answers: int
    supervised_answers: int
    untaught_answers: int
    cut_answers: int
    lost_rows: dict[str, str]
    template: str
    max_tokens: int

    def as_dict(self) -> dict[str, Any]:
        """The audit as a JSON object."""
        return dataclasses.asdict(self)


def audit(
    rows: Sequence[Row],
    examples: Sequence[Example],
    renderer: Renderer,
    lost: Mapping[int, str] | None = None,
) -> MaskAudit:
    """Count what a run will learn from, and what it will not; ``lost`` says which rows, and why."""
    lost = lost or {}
    ids = ids_of(rows)
    empty: list[str] = []
    tokens = supervised_tokens = truncated = answers = learnt = supervised = 0
    for i, (row, example) in enumerate(zip(rows, examples, strict=True)):
        tokens += len(example.ids)
        supervised_tokens += example.supervised
        truncated += example.truncated
        if not example.supervised:
            empty.append(row.id)
        if i not in lost:
            taught = renderer.taught(row)
            answers, learnt = answers + len(taught), learnt + sum(taught)
            supervised += len(example.spans)
    return MaskAudit(
        rows=len(rows),
        tokens=tokens,
        supervised_tokens=supervised_tokens,
        truncated_rows=truncated,
        unsupervised_rows=len(empty),
        unsupervised_ids=empty,
        exact_duplicates=sum("#" in id for id in ids),
        answers=answers,
        supervised_answers=supervised,
        untaught_answers=answers - learnt,
        cut_answers=learnt - supervised,
        lost_rows={ids[i]: why for i, why in lost.items()},
        template="chat" if renderer.chat else "plain",
        max_tokens=renderer.max_tokens,
    )
