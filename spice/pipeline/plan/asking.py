"""A batch of each benchmark, asked: what scoring would take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice.evaluation.benchmarks import Suite
from spice.models.device import device
from spice.pipeline.plan.probe import Memory

if TYPE_CHECKING:
    from spice.models.tokenized import Tokenized


def ask(
    tokenized: Tokenized,
    suite: Suite,
    names: Sequence[str],
    *,
    seed: int,
    cache: Path,
    accelerator: str,
) -> dict[str, Any]:
    """Seconds and memory of the named benchmarks, as the model without an adapter answers."""
    from spice.evaluation.evaluation import Evaluation  # keeps torch out of start-up

    def evaluation(suite: Suite) -> Evaluation:
        return Evaluation(
            model,
            tokenized.renderer.tokenizer,
            tokenized.renderer,
            suite,
            max_length=tokenized.checkpoint.context(),
            seed=seed,
            on_score=lambda score, samples: None,
            cache=cache,
        )

    where = device(accelerator)
    model: Any = tokenized.checkpoint.load()
    model.to(where)
    seconds, memory = 0.0, Memory(where)
    for name in names:
        if suite.skip_reason(name):
            continue
        sizes = evaluation(suite).items(name)  # what is fetched and prepared now is there later
        start = time.perf_counter()
        evaluation(suite).items(name)
        loading = time.perf_counter() - start
        limited = replace(suite, limit=-(-suite.batch_size // len(sizes)))
        with memory:
            start = time.perf_counter()
            score, _ = evaluation(limited).score(name)
            asking = time.perf_counter() - start - loading
        seconds += loading + max(asking, 0.0) * sum(sizes) / max(score.n, 1)
    return {"seconds": seconds, "memory": memory.peak}
