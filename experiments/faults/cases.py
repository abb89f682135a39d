"""What is run: small runs that between them take every step, every schedule and every signal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUIET = ["logger=csv", "trainer=cpu", "trainer.progress=false"]
POOL = ["data.size=240", "budget=24"]
STORE = ["gradients.shard_rows=32"]
TUNED = ["finetune.max_steps=20", "finetune.checkpoint_every=3"]
SCORED = ["benchmarks.only=[mmlu,gsm8k]", "benchmarks.limit=4"]
CHOSEN = ["finetune=none", "benchmarks=none"]
WHOLE = [*POOL, *STORE, *TUNED, *SCORED, *QUIET]
#: selectors that aim at benchmarks need some
AIMED = [*POOL, *STORE, *QUIET, "finetune=none", "benchmarks.only=[mmlu]", "benchmarks.limit=2"]
ONLY_CHOSEN = [*POOL, *STORE, *CHOSEN, *QUIET]

#: every step and schedule: gradients, weights, losses, embeddings, LESS's warm-up and gradients,
#: windows and rounds with a proxy that learns, fine-tuning, likelihoods, texts, programs
RUNS: dict[str, list[str]] = {
    "consensus": [*WHOLE, "selector=spice_consensus"],
    "programs": [*POOL, *QUIET, "selector=random", "finetune.max_steps=6",
                 "benchmarks.only=[humaneval,mbpp]", "benchmarks.limit=4",
                 "benchmarks.allow_code_execution=true"],
    "less": [*AIMED, "selector=less", "selector.warmup_share=0.2"],
    "experienced": [*ONLY_CHOSEN, "selector=ifd_experienced"],
    "targeted": [*AIMED, "selector=spice_targeted"],
    "selectit": [*ONLY_CHOSEN, "selector=selectit"],
    "rds": [*AIMED, "selector=rds"],
    "dpp": [*ONLY_CHOSEN, "selector=dpp"],
    "pools": [*ONLY_CHOSEN, "selector=spice", "schedule=pools", "schedule.pool_size=24",
              "schedule.refresh_every=2", "schedule.learning_rate=0.01"],
    "lead": [*ONLY_CHOSEN, "selector=lead"],
}  # fmt: skip


@dataclass
class Tally:
    """One line a case, as it is known; what fell short is said again at the end."""

    say: Callable[[str], None]
    held: int = 0
    short: list[str] = field(default_factory=list)

    def tell(self, section: str, name: str, problems: Iterable[str]) -> None:
        """A case that held, or in what it fell short."""
        found = [problem for problem in problems if problem]
        line = f"{section} {name}"
        if found:
            self.short.append(f"{line}: {'; '.join(found)}")
            self.say(f"SHORT {self.short[-1]}")
        else:
            self.held += 1
            self.say(f"HELD  {line}")


def facts(run: Path, cache: Path) -> dict[str, Any]:
    """What a run came to: picks, gains, the adapter's bytes, scores with their errors."""
    found: dict[str, Any] = {}
    chosen = json.loads((run / "selection.json").read_text(encoding="utf-8"))
    found |= {key: chosen.get(key) for key in ("ids", "scores", "gains", "conflicts")}
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    found["scores of benchmarks"] = results.get("scores")
    key = results.get("keys", {}).get("finetune")
    for adapter in sorted((cache / "finetune").glob(f"{key}/**/*.safetensors")) if key else ():
        found[adapter.name] = hashlib.sha256(adapter.read_bytes()).hexdigest()
    return found


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Which of the facts are not the same."""
    names = [key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)]
    return f"other {', '.join(sorted(names))}" if names else ""
