"""The rows of a pool that a report carries with it: which, and how they are packed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spice.data.row_table import ids_of, sources_of
from spice.messages import shown
from spice.records import Row
from spice.reporting.report.gradient_map import gradient_map
from spice.submodular.kernel import Rows, inner_products

EMBEDDED = 10_000  # rows that a page carries at most
FEWEST = 500  # and those that it carries in any case
BYTES = 4_000_000  # of them, packed
CUTS = (None, 4_000, 1_000, 300)  # characters of a turn, tried one after the other
BLOCK = 1_024  # that are looked at together
MAPPED = 2**35  # n × d up to which a map is made


@dataclass
class PoolSeen:
    """A pool that was opened again.

    ``lengths`` n count what ``unit`` says. Where they are still at hand: ``reliability`` n is the
    table of :mod:`spice.signals.reliability`, ``gradients`` n × d are the proxy's, ``left`` n is
    what each row would still add to the choice of run number ``of``. ``chose`` are the numbers of
    the runs that chose from it, ``notes`` what could not be had, and why.
    """

    rows: Sequence[Row]
    lengths: np.ndarray
    unit: str
    chose: list[int]
    reliability: np.ndarray | None = None
    gradients: Rows | None = None
    left: np.ndarray | None = None
    of: int | None = None
    notes: list[str] = field(default_factory=list)


def gains_left(seen: Rows, picks: np.ndarray, alpha: float) -> np.ndarray:
    """Δ(x|S) = log(1 + α(‖g‖² − α k_xᵀ(I + αK_S)⁻¹k_x)) of n × d rows after all picks, n, in nats.

    ``picks`` k are S; NaN for rows without a gradient.
    """
    n = len(seen)
    factor = np.linalg.cholesky(np.eye(len(picks)) + alpha * inner_products(seen, picks, picks))
    found = np.empty(n)
    for start in range(0, n, BLOCK):
        which = np.arange(start, min(start + BLOCK, n))
        G = np.asarray(seen[which], dtype=np.float64)
        squares = np.einsum("nd,nd->n", G, G)
        explained = np.linalg.solve(factor, inner_products(seen, picks, which))
        rest = squares - alpha * np.square(explained).sum(axis=0)
        found[which] = np.log1p(alpha * np.where(rest > 0, rest, 0.0) + 0.0 * squares)
    return found


def embedded(
    pool: PoolSeen, selections: Mapping[int, Mapping[str, Any]], most: int = EMBEDDED
) -> list[int]:
    """The positions that a page carries, at most ``most``, in the order of the pool.

    All of the pool where it is that small; else all picks, then half of the room for those that
    come first by reliability or else by what they would still add, and a fixed draw of the others.
    """
    n = len(pool.rows)
    if n <= most:
        return list(range(n))
    ids = ids_of(pool.rows)
    orders = (selections[number]["indices"] for number in pool.chose)
    kept = list(dict.fromkeys(row for order in orders for row in order))[:most]
    score = pool.reliability["weight"] if pool.reliability is not None else pool.left
    rest = np.setdiff1d(np.arange(n), kept)
    if score is not None:
        best = np.argsort(-np.nan_to_num(score[rest], nan=-np.inf), kind="stable")
        kept += rest[best[: (most - len(kept)) // 2]].tolist()
        rest = np.setdiff1d(rest, kept)

    def drawn(row: int) -> str:
        return hashlib.sha256(ids[row].encode()).hexdigest()

    return sorted([*kept, *sorted(rest.tolist(), key=drawn)[: most - len(kept)]])


def packed(
    pool: PoolSeen,
    selections: Mapping[int, Mapping[str, Any]],
    labels: Mapping[int, Mapping[str, str | None]],
    limit: int = BYTES,
) -> tuple[str, dict[str, Any]]:
    """The rows as base64 of gzip of JSON, at most ``limit`` bytes, and what is to be said of them.

    ``labels`` are the ``name`` of each run that chose, and as ``file`` the link to what it chose.
    Where they would be more, turns are cut, and where that is not enough, rows are left out.
    """
    most, text = EMBEDDED, ""
    while True:
        which = embedded(pool, selections, most)
        content = _content(pool, which, selections, labels)
        for cut in CUTS:
            turns, count = _turns([pool.rows[row] for row in which], cut)
            text = _pack({**content, "turns": turns, "cut": cut})
            if len(text) <= limit:
                break
        if len(text) <= limit or most <= FEWEST:
            facts = {"n": len(pool.rows), "shown": len(which), "cut": cut, "cut_rows": count}
            return text, {**facts, "shares": content["shares"], "unit": pool.unit}
        most //= 2


def _pack(content: Any) -> str:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _content(
    pool: PoolSeen,
    which: list[int],
    selections: Mapping[int, Mapping[str, Any]],
    labels: Mapping[int, Mapping[str, str | None]],
) -> dict[str, Any]:
    """All but the texts, column by column."""
    at, place = np.array(which, dtype=np.int64), {row: i for i, row in enumerate(which)}
    sources = sources_of(pool.rows)
    known = sorted(set(sources))
    number = {name: i for i, name in enumerate(known)}
    ids = ids_of(pool.rows)
    points, shares = _map(pool, at)
    return {
        "unit": pool.unit,
        "sources": [shown(name) for name in known],
        "position": which,
        "id": [shown(ids[row]) for row in which],
        "source": [number[sources[row]] for row in which],
        "length": pool.lengths[at].tolist(),
        "weight": _column(pool.reliability, "weight", at),
        "support": _column(pool.reliability, "support", at),
        "opposition": _column(pool.reliability, "opposition", at),
        "left": None if pool.left is None else _numbers(pool.left[at]),
        "leftOf": pool.chose.index(pool.of) if pool.of is not None else None,
        "x": None if points is None else _numbers(points[:, 0]),
        "y": None if points is None else _numbers(points[:, 1]),
        "shares": shares,
        "runs": [{**labels[run], **_picks(selections[run], place)} for run in pool.chose],
    }


def _map(pool: PoolSeen, which: np.ndarray) -> tuple[np.ndarray | None, tuple[float, float] | None]:
    if pool.gradients is None:
        return None, None
    if pool.gradients.shape[0] * pool.gradients.shape[1] > MAPPED:
        pool.notes.append(
            "no map: the stored gradients are too many to go over for a picture; "
            "gradients.projection=8192 makes them fewer"
        )
        return None, None
    found = gradient_map(pool.gradients, which)
    return (found.points, found.shares) if found else (None, None)


def _picks(selection: Mapping[str, Any], place: Mapping[int, int]) -> dict[str, Any]:
    """Where a run's picks are among the rows that are carried, in the order of picking."""
    there = [t for t, row in enumerate(selection["indices"]) if row in place]

    def of(values: Sequence[float] | None) -> list[float | None] | None:
        return (
            None if values is None else _numbers(np.array([values[t] for t in there], dtype=float))
        )

    return {
        "k": selection["k"],
        "picks": [place[selection["indices"][t]] for t in there],
        "order": [t + 1 for t in there],
        "gains": of(selection["gains"] or selection["scores"]),
        "greedy": bool(selection["gains"]),
        "conflicts": of(selection["conflicts"]),
    }


def _column(table: np.ndarray | None, name: str, which: np.ndarray) -> list[float | None] | None:
    return None if table is None else _numbers(table[name][which])


def _numbers(values: np.ndarray) -> list[float | None]:
    """Four digits of each; None for what is no number."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values.tolist()]


def _turns(rows: Sequence[Row], cut: int | None) -> tuple[list[list[str]], int]:
    """All turns of each row, a role's letter before each text, and how many rows were cut."""
    found, short = [], 0
    for row in rows:
        turns = [*row.messages(), {"role": "assistant", "content": row.response}]
        texts = [shown(turn["content"], lines=True) for turn in turns]
        short += cut is not None and any(len(text) > cut for text in texts)
        told = (text if cut is None or len(text) <= cut else f"{text[:cut]} …" for text in texts)
        found.append([f"{t['role'][0]}{text}" for t, text in zip(turns, told, strict=True)])
    return found, short
