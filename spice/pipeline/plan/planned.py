"""A line of a plan."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Planned:
    """A stage: ``key`` tells it from others, ``there`` whether it is finished already.

    ``seconds``, ``memory`` and ``disk`` (bytes) are what it would take, None where that cannot be
    told; of a finished one ``disk`` is what it takes. ``operations`` are the multiplications and
    additions of products of matrices: what it takes on any machine.
    """

    stage: str
    key: str
    there: bool
    seconds: float | None
    memory: int | None
    disk: int | None
    operations: float | None = None
