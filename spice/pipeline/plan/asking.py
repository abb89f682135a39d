"""A batch of each benchmark, asked: what scoring would take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice.distributed.per_rank import PerRank
from spice.evaluation.benchmarks import Suite
from spice.messages import say
from spice.models.device import device
from spice.pipeline.plan.probe import Memory, quickest

if TYPE_CHECKING:
    from spice.evaluation.evaluation import Evaluation
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

    where = device(accelerator)
    model: Any = tokenized.checkpoint.whole()
    evaluation = partial(
        Evaluation,
        PerRank(lambda: model.to(where)),
        tokenized.renderer.tokenizer,
        tokenized.renderer,
        max_length=tokenized.context,
        seed=seed,
        on_score=lambda score, samples: None,
        cache=cache,
    )
    asked = [name for name in names if not suite.skip_reason(name)]
    memory = Memory(where)
    seconds = sum(_seconds(evaluation, suite, name, memory) for name in asked)
    return {"seconds": seconds, "memory": memory.peak}


def _seconds(
    evaluation: Callable[[Suite], Evaluation], suite: Suite, name: str, memory: Memory
) -> float:
    """A batch of a benchmark is asked; the others take as long."""
    sizes = evaluation(suite).items(name)  # what is fetched and prepared now is there later
    loading = quickest(lambda: evaluation(suite).items(name))
    limit = -(-suite.batch_size // len(sizes))
    asked = sum(min(limit, size) for size in sizes)
    say("probe", f"scoring {name}, {asked} of {sum(sizes):,} items")
    limited = replace(suite, limit=limit)
    with memory:  # what takes long is asked once, else the first question's slowness would count
        asking = quickest(lambda: evaluation(limited).score(name)) - loading
    return loading + max(asking, 0.0) * sum(sizes) / max(asked, 1)


def items(suite: Suite, name: str, cache: Path) -> list[int]:
    """How many items each subtask of a benchmark has, up to the suite's limit; none is asked."""
    import torch

    from spice.evaluation.evaluation import Evaluation

    model: Any = PerRank(torch.nn.Module)
    nobody: Any = None
    return Evaluation(
        model, nobody, nobody, suite, max_length=0, seed=0, on_score=nobody, cache=cache
    ).items(name)
