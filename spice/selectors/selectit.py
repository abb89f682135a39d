"""SelectIT: the model's own grades, trusted as far as they are clear (arXiv 2402.16705)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from annotated_types import MinLen

from spice.models.checkpoint import Checkpoint
from spice.records import Selection, Signals
from spice.selectors.base import Selector
from spice.selectors.mix import Mix
from spice.selectors.ranking import top
from spice.signals.base import Signal
from spice.signals.ratings import LEVELS, Panel, RaterSizes, Ratings
from spice.submodular.rooms import told
from spice.values import FilePaths, NonNegative, RefusedError, Texts, Told, component


@component
class SelectIt(Mix, Selector):
    """Take the rows that the proxy grades highest, clearly, and alike for every ``requests``.

    Token level: with p_k the probability of grade k of K, P' = softmax(p/Σp) (``normalisation``
    ``softmax``, the authors' code) or p/Σp (``linear``), and b the likeliest grade,
    s = b · Σ_i |P'_i − P'_b| / (K − 1). Sentence level: mean(s) / (1 + ``penalty`` · std(s)) over
    the requests, std that of the population. Model level: the mean of the sentence scores of the
    proxy and of the checkpoints in ``more_proxies`` (folders, or names on the hub), weighted by
    their numbers of parameters; without any it is the sentence's.

    Raises:
        RefusedError: an option outside its range.
    """

    requests: Annotated[Texts, MinLen(1), Told("must be a list of requests to grade")]
    normalisation: Literal["softmax", "linear"]
    penalty: NonNegative
    more_proxies: FilePaths

    def __post_init__(self) -> None:
        super().__post_init__()
        for request in self.requests:
            if "{instruction}" not in request or "{response}" not in request:
                raise RefusedError("requests", request, "lacks {instruction} or {response}")

    @property
    def needs(self) -> Mapping[str, Signal]:
        """Ratings; those of several models come with their sizes."""
        requests = tuple(self.requests)
        checkpoints = [Checkpoint(path, "float32") for path in self.more_proxies]
        if not checkpoints:
            return {"ratings": Ratings(requests)}
        return {"ratings": Panel(requests, checkpoints), "rater_sizes": RaterSizes(checkpoints)}

    def select(
        self, signals: Signals, k: int, rng: np.random.Generator, eligible: Sequence[int]
    ) -> Selection:
        """The k highest; ties go to the smaller id."""
        scores = sentence_score(token_score(signals["ratings"], self.normalisation), self.penalty)
        if self.more_proxies:
            scores = model_score(scores, signals["rater_sizes"])
        rows = np.array(eligible, dtype=np.int64)
        known = np.isfinite(scores[rows])
        rooms = self.rooms(signals.sources, eligible, rows[known], k)
        picks = top(scores, signals.ids, rows[known], k, rooms)
        unknown = sorted(rows[~known].tolist())
        return Selection(
            n=len(signals),
            indices=picks,
            scores=scores[picks].tolist(),
            excluded={"a request does not fit": unknown} if unknown else {},
            notes=told(rooms),
        )


def token_score(p: np.ndarray, normalisation: str) -> np.ndarray:
    """b · mean distance to the likeliest grade b (the lower of two), n × q of n × q × K."""
    levels = np.arange(1, p.shape[-1] + 1)
    shares = p.astype(np.float64) / p.sum(axis=-1, keepdims=True, dtype=np.float64)
    if normalisation == "softmax":
        raised = np.exp(shares - shares.max(axis=-1, keepdims=True))
        shares = raised / raised.sum(axis=-1, keepdims=True)
    best = np.argmax(p, axis=-1)
    peak = np.take_along_axis(shares, best[..., None], axis=-1)
    return levels[best] * np.abs(shares - peak).sum(axis=-1) / (len(LEVELS) - 1)


def sentence_score(s: np.ndarray, penalty: float) -> np.ndarray:
    """mean / (1 + penalty · std) over the requests, the last axis: n of n × q.

    Of several models n × models of n × models × q.
    """
    return s.mean(axis=-1) / (1 + penalty * s.std(axis=-1))


def model_score(s: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Σ_i θ_i s_i / Σ_i θ_i over the models, the last axis, with θ_i their parameters.

    n of ``s`` n × models."""
    return s @ (sizes / sizes.sum())
