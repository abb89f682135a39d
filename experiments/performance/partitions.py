"""Two rounds over parts of a pool beside one greedy over all of it: F(S), seconds, peak memory.

Seconds are the processor's, all threads together: what else runs adds little to them.
Each measurement has a process of its own and is written down as soon as it is made
(``partitions.json``); what is there is not measured again.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.performance import pools
from experiments.performance.greedy import objective, warm_up
from experiments.performance.timing import in_process, peak_memory
from spice.submodular.objective import held
from spice.submodular.partitions import Partition, peak

FILE = Path(__file__).with_name("partitions.json")
SIZES = {
    (20_000, 1_024, 2_000): (1, 2, 3, 5, 10),
    (97_500, 1_024, 2_000): (1, 3, 7),
    (97_500, 256, 9_750): (1, 3),
}
SMALL = {(1_000, 64, 100): (1, 2, 3)}


def choose(file: str, k: int, count: int) -> dict[str, Any]:
    """One choice from a pool on disk, λ = 0, and its certificate timed apart."""
    warm_up()
    G = np.load(file, mmap_mode="r")
    problem = objective(G, "auto")
    if count > 1:
        problem = replace(problem, partition=Partition.drawn(range(len(G)), count))
    start, wall = time.process_time(), time.perf_counter()
    trace = problem.maximise(k, 0.0)
    chosen = time.process_time()
    found = {"seconds": chosen - start, "wall": time.perf_counter() - wall}
    found |= {"peak": peak_memory(), "information": sum(trace.gains)}
    told = problem.certificate(trace, 0.0)
    assert told is not None
    found |= {"certificate": time.process_time() - chosen, "share": told["guaranteed_fraction"]}
    if trace.rounds:
        found |= {"best part": trace.rounds.of_best_part, "union": trace.rounds.union}
    return {**found, "picks": trace.picks}


def measure(quick: bool) -> list[dict[str, Any]]:
    """All sizes, a line for each number of parts."""
    there = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() and not quick else {}
    for (n, d, k), counts in (SMALL if quick else SIZES).items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "pool.npy")
            for count in counts:
                name = f"{n} {d} {k} {count}"
                if name in there:
                    continue
                if not file.is_file():
                    pools.pool(n, d, file=file)
                found = in_process(choose, str(file), k, count)
                bytes_held = peak(n, k, count, lambda n, k: held(n, k, "exact", "auto"))
                there[name] = {"n": n, "d": d, "k": k, "count": count, "held": bytes_held, **found}
                if not quick:
                    FILE.write_text(json.dumps(there) + "\n", encoding="utf-8")
                print(f"{name}: {found['seconds']:.1f} s", flush=True)
    return [_beside_exact(line, there) for line in there.values()]


def _beside_exact(line: dict[str, Any], there: dict[str, Any]) -> dict[str, Any]:
    """A line without its picks, but with how many of them one greedy makes too."""
    exact = there[f"{line['n']} {line['d']} {line['k']} 1"]
    shared = len({*line["picks"]} & {*exact["picks"]}) / line["k"]
    of_exact = line["information"] / exact["information"]
    kept = {name: value for name, value in line.items() if name != "picks"}
    return {**kept, "of exact": of_exact, "shared": shared}
