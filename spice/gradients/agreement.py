"""How far rows agree with each other, and how far each can therefore be trusted.

The Fisher information of an observation whose noise has the variance σ² is g gᵀ/σ². A row's weight
w stands for 1/σ, so rows are scaled to w ĝ, ĝ = g/‖g‖, before any greedy. Two ways to it:

    consensus    what the other rows of x's source say of x
    validation   w_x = max(0, max_v cos(g_x, g_v)) over development examples v

For consensus, each row of the source has one vote, the cosine of its gradient with x's, and

    support     c⁺_x = the mean of the largest tenth of the votes
    opposition  c⁻_x = the mean of the largest tenth of the votes, their signs turned
    net         a_x = c⁺_x − c⁻_x

Near copies share one vote, and a row's own near copies have none on it: saying a thing ten times
makes it no truer. What teaches something real agrees with some of its neighbours; noise agrees with
nobody; a wrong answer is opposed by those who know better.

How strongly to distrust follows from the pool. For a row that has nothing to do with its source, g
is as likely as −g, so its net consensus is as often negative as positive: twice the share of
negative ones is about the share of such rows (what contradicts its source counts double), and the
typical trustworthy row is the median of the others:

    π = min(1, 2 · share of a < 0)        the untrustworthy share of a source
    τ = the (1 + π)/2 quantile of a       the median of what is left above the lowest π
    w² = (max(0, a)/τ)^(½ + π)            0 for a ≤ 0

So a row's information w² grows with the root of its net consensus in a clean source, and in
proportion to it where half of a source is untrustworthy. There is nothing to set.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spice.progress import counted
from spice.submodular.kernel import Rows, Subset, known_products, squared_norms

if TYPE_CHECKING:
    from torch import Tensor

FEW_ROWS = 4_000  # up to so many rows cosines are computed in float64
COLUMNS = 16_384  # coordinates whose products are taken at a time
BLOCK = 4_096  # rows that are read at a time
SORTED = 2**23  # votes that are sorted at a time
FEWEST = 30  # rows of a source that can judge each other; smaller ones judge together


@dataclass(frozen=True)
class Agreement:
    """``support`` c⁺ and ``opposition`` c⁻ of n rows; NaN for a row on which nobody votes.

    ``groups`` n numbers the rows that judged each other, ``votes`` n says how much of a vote each
    has: 1/m for one of m near copies among the voters, 0 for a row that is none.
    """

    support: np.ndarray
    opposition: np.ndarray
    groups: np.ndarray
    votes: np.ndarray

    @property
    def net(self) -> np.ndarray:
        """a = c⁺ − c⁻, n."""
        return self.support - self.opposition

    def untrustworthy(self, group: int) -> float:
        """π of a group, each voter counting by its vote."""
        voters = self._voters(group)
        against = self.votes[voters & (self.net < 0)].sum()
        return float(min(1.0, 2.0 * against / max(self.votes[voters].sum(), 1e-300)))

    @property
    def untrustworthy_share(self) -> float:
        """π of all groups, each by its number of rows."""
        judged = self.groups[np.isfinite(self.net)]
        groups, sizes = np.unique(judged, return_counts=True)
        shares = [self.untrustworthy(group) for group in groups]
        return float(np.average(shares, weights=sizes)) if len(groups) else 0.0

    def weights(self) -> np.ndarray:
        """w = (max(0, a)/τ)^((½ + π)/2), n, by the π of each group; 0 where a ≤ 0 or NaN."""
        weights = np.zeros(len(self.groups))
        for group in np.unique(self.groups[self.net > 0]):
            voters, share = self._voters(group), self.untrustworthy(group)
            a, votes = self.net[voters], self.votes[voters]
            at = (1.0 + share) / 2.0 - 1e-9  # shares of a vote add up to one but for rounding
            level = np.quantile(a, at, weights=votes, method="inverted_cdf")
            rows = (self.groups == group) & (self.net > 0)
            typical = level if level > 0 else self.net[rows].max()
            weights[rows] = (self.net[rows] / typical) ** ((0.5 + share) / 2.0)
        return weights

    def _voters(self, group: int) -> np.ndarray:
        return (self.groups == group) & (self.votes > 0) & np.isfinite(self.net)


def directions(gradients: Rows) -> np.ndarray:
    """Whether each of n × d ``gradients`` has one, n: a norm that is finite and not zero."""
    squares = squared_norms(gradients)
    return np.isfinite(squares) & (squares > 0)


def agreement(
    gradients: Rows,
    groups: np.ndarray,
    *,
    share: float,
    copies: float,
    references: int,
    seed: int,
    names: Sequence[str] | None = None,
) -> Agreement:
    """Support and opposition of each of n × d gradients among those of its group.

    Args:
        gradients: n × d.
        groups: n whole numbers; rows with the same one judge each other.
        share: of the votes, whose mean is taken: a tenth; one vote at least.
        copies: the cosine above which two rows are near copies.
        references: voters of a group at most: of more, so many are drawn from ``seed``.
        names: n texts by whose hash they are drawn, so that the order of rows decides nothing; by
            default the gradients themselves.
    """
    usable, votes = directions(gradients), np.zeros(len(groups))
    support, opposition = np.full(len(groups), np.nan), np.full(len(groups), np.nan)
    pairs = _pairs(groups[usable], references)
    for group in counted(list(pairs), "weights", "sources", pairs.__getitem__):
        rows = np.flatnonzero(usable & (groups == group))
        voters = rows
        if len(rows) > references:
            voters = _drawn(gradients, rows, references, seed, names)
        products = cosines(gradients, rows, voters)
        alike = products[np.searchsorted(rows, voters)] > copies
        # By rounding a row may be no copy even of itself.
        each = alike.sum(dim=1).clamp(min=1).double().reciprocal()
        votes[voters] = each.cpu().numpy()
        step = max(1, SORTED // max(len(voters), 1))
        for i in range(0, len(rows), step):
            part = slice(i, i + step)
            above, below = _tenths(products[part], each, share, copies)
            support[rows[part]], opposition[rows[part]] = above, below
    return Agreement(support, opposition, groups, votes)


def _pairs(groups: np.ndarray, references: int) -> dict[int, int]:
    """How many cosines each group of n rows takes, by its number."""
    numbers, sizes = np.unique(groups, return_counts=True)
    pairs = sizes * np.minimum(sizes, references)
    return dict(zip(numbers.tolist(), pairs.tolist(), strict=True))


def _tenths(
    cosines: Tensor, votes: Tensor, share: float, copies: float
) -> tuple[np.ndarray, np.ndarray]:
    """Means of the largest ``share`` of b × v cosines, and of their negatives; b each.

    ``votes`` v is how much each counts; near copies of the row itself do not. NaN without votes.
    """
    weights = votes.to(cosines).expand_as(cosines).masked_fill(cosines > copies, 0.0)
    total = weights.sum(dim=1)
    mass = (share * total).clamp(min=1.0).minimum(total)
    others = cosines.masked_fill(cosines > copies, -2.0)  # a row's own copies come last
    above = _mean_of_largest(others, weights, mass)
    below = _mean_of_largest(others.neg_().masked_fill_(cosines > copies, -2.0), weights, mass)
    return above.double().cpu().numpy(), below.double().cpu().numpy()


def _mean_of_largest(values: Tensor, weights: Tensor, mass: Tensor) -> Tensor:
    """Of b × v, the mean of the largest that together weigh ``mass`` (b), the last in part; b.

    Only as many are put in order as weigh so much: a tenth, and more where copies share a vote.
    """
    among = values.shape[1]
    count = min(among, math.ceil(float(mass.max())))
    while True:
        largest, order = values.topk(count, dim=1)
        weight = weights.gather(1, order)
        if count == among or bool((weight.sum(dim=1) >= mass).all()):
            break
        count = min(among, 2 * count)
    before = weight.cumsum(dim=1) - weight
    taken = weight.minimum((mass.unsqueeze(1) - before).clamp(min=0.0))
    return (taken * largest).sum(dim=1) / taken.sum(dim=1)


def cosines(
    gradients: Rows, rows: np.ndarray, others: np.ndarray, of: Rows | None = None
) -> Tensor:
    """cos(g_x, g_y) of b ``rows`` with v ``others``, b × v, on the GPU if there is one.

    The others are rows of the same gradients, or ``of`` another store. Each row is read once, a
    block of rows and coordinates at a time.
    """
    import torch

    second = gradients if of is None else of
    where = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.float64 if len(gradients) <= FEW_ROWS else torch.float32
    known = known_products(gradients) if of is None else None
    if known is not None:
        found = torch.from_numpy(np.asarray(known[np.ix_(rows, others)])).to(where, kind)
    else:
        found = torch.zeros(len(rows), len(others), dtype=kind, device=where)
        slices = list(_slices(gradients.shape[1], COLUMNS))
        for columns in counted(slices, "cosines", "blocks"):
            fixed = _part(second, others, columns).to(where, kind).T
            for block in _slices(len(rows), BLOCK):
                found[block].addmm_(_part(gradients, rows[block], columns).to(where, kind), fixed)
    for store, which, axis in ((gradients, rows, 1), (second, others, 0)):
        norms = torch.from_numpy(np.sqrt(squared_norms(Subset(store, which)))).to(where, kind)
        found.div_(norms.unsqueeze(axis))
    return found.clamp_(-1.0, 1.0)


def _part(gradients: Rows, rows: np.ndarray, columns: slice) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(gradients[rows, columns]))


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(i, min(i + step, length)) for i in range(0, length, step))


def _drawn(
    gradients: Rows, rows: np.ndarray, count: int, seed: int, names: Sequence[str] | None
) -> np.ndarray:
    """``count`` of the rows, by the hash of their names or numbers; in the order of the rows."""

    def key(row: int) -> bytes:
        told = names[row].encode() if names is not None else np.asarray(gradients[[row]]).tobytes()
        return hashlib.blake2b(told, digest_size=8, salt=seed.to_bytes(8, "little")).digest()

    return np.sort(np.array(sorted(rows.tolist(), key=key)[:count], dtype=np.int64))


def judging_groups(sources: Sequence[str] | None, usable: np.ndarray) -> np.ndarray:
    """Who judges whom: n numbers, one for each source of at least :data:`FEWEST` usable rows.

    Smaller sources judge together; without ``sources`` all rows do.
    """
    if sources is None:
        return np.zeros(len(usable), dtype=np.int64)
    _, numbers = np.unique(np.asarray(sources), return_inverse=True)
    sizes = np.bincount(numbers[usable], minlength=numbers.max(initial=0) + 1)
    return np.where(sizes[numbers] >= FEWEST, numbers + 1, 0)


def effective_rows(weights: np.ndarray) -> float:
    """How many equally trusted rows would inform as n with ``weights`` n do: (Σw²)²/Σw⁴."""
    squares = np.square(weights[np.isfinite(weights)])
    total = np.square(squares).sum()
    return float(squares.sum() ** 2 / total) if total > 0 else 0.0


def nearest_example(gradients: Rows, examples: Rows) -> np.ndarray:
    """max(0, max_v cos(g_x, g_v)) of n rows over m examples, n; 0 for rows without direction."""
    usable, aims = (np.flatnonzero(directions(store)) for store in (gradients, examples))
    weights = np.zeros(len(gradients))
    if len(aims) and len(usable):
        found = cosines(gradients, usable, aims, of=examples)
        weights[usable] = found.max(dim=1).values.clamp(min=0.0).double().cpu().numpy()
    return weights
