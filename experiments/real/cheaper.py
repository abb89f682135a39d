"""How far cheaper gradients go: the last layers alone, products or weights in bfloat16.

    make real-checkpoint
    SPICE_REAL_DATA=FOLDER OMP_NUM_THREADS=1 python -m experiments.real.cheaper

Rows of the study's pool, cut off at 160 tokens, are read in every way, all ways taking turns over a
batch. What is read is kept batch by batch, so it goes on where it was interrupted (``--minutes``);
``cheaper.md`` tells of the batches that are there. F(S) is always that of the full gradients: what
is lost is lost by other picks, not by another measure.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.performance.greedy import objective
from experiments.real.reading import EXTRACTION, TEMPLATE, Real, real
from spice.data.pool import Pool
from spice.selectors.scaling import rescale

ROWS, MAX_TOKENS, BATCH = 320, 160, 8
SHARE = 0.1
PENALTIES = (0.0, 0.1)
SCALES = ("raw", "unit")
FULL = "all layers, float32"
DRAWS = 20  # of as many rows at random, for comparison


@dataclasses.dataclass(frozen=True)
class Way:
    """The last ``layers`` (None: all), what products are ``autocast`` to, what weights are in."""

    layers: int | None = None
    autocast: Any = None
    dtype: Any = "float32"


WAYS = {
    FULL: Way(),
    "last 15 of 30 layers": Way(layers=15),
    "last 8 layers": Way(layers=8),
    "products in bfloat16": Way(autocast="bfloat16"),
    "last 15, products in bfloat16": Way(layers=15, autocast="bfloat16"),
    "last 8, products in bfloat16": Way(layers=8, autocast="bfloat16"),
    "weights in bfloat16": Way(dtype="bfloat16"),
}


def reader(study: Real, way: Way) -> Callable[[Any], np.ndarray]:
    """What gives a batch's gradients, b × p."""
    from spice.gradients.per_sample import per_sample_gradients

    lora = dataclasses.replace(EXTRACTION.lora, layers=way.layers)
    extraction = dataclasses.replace(EXTRACTION, lora=lora, autocast=way.autocast)
    model = extraction.attach(dataclasses.replace(study.checkpoint, dtype=way.dtype).load()).eval()
    sketch = extraction.sketch()
    return lambda batch: per_sample_gradients(model, batch, "mean", sketch).numpy()


def read(study: Real, folder: Path, minutes: float) -> None:
    """The batches that are missing, until so many minutes have gone."""
    from spice.data.batches import length_order, pad
    from spice.models.tokenized import tokenize

    end = time.monotonic() + 60 * minutes
    rows = study.parts.pool[:: len(study.parts.pool) // ROWS][:ROWS]
    template = dataclasses.replace(TEMPLATE, max_tokens=MAX_TOKENS)
    reading = tokenize(study.checkpoint, template, Pool(rows), study.folder / "weights")
    usable = [row for row, example in enumerate(reading.examples) if example.supervised]
    order = [int(row) for row in length_order(reading.examples, usable)]
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    drawn = np.random.default_rng(0).permutation(len(batches))  # whatever is done is a sample
    folder.mkdir(parents=True, exist_ok=True)
    missing = [number for number in drawn if not (folder / f"{number}.npz").exists()]
    readers = {name: reader(study, way) for name, way in WAYS.items()} if missing else {}
    for turn, number in enumerate(missing):
        if time.monotonic() > end:
            print(f"{len(missing) - turn} of {len(batches)} batches are still to be read")
            return
        batch = pad(reading.examples, batches[number], reading.pad_id)
        if not turn:
            for give in readers.values():
                give(batch)  # the first pass is always slower
        keep(folder / f"{number}.npz", batches[number], batch, readers, turn)


def keep(
    path: Path, rows: list[int], batch: Any, readers: dict[str, Callable[..., Any]], turn: int
) -> None:
    """One batch in every way; who begins changes from batch to batch."""
    names = list(readers)
    found: dict[str, Any] = {"rows": rows, "tokens": batch["input_ids"].numel()}
    for name in names[turn % len(names) :] + names[: turn % len(names)]:
        start = time.process_time()
        found[name] = readers[name](batch)
        found[f"{name} seconds"] = time.process_time() - start
    partial = path.with_name("partial.npz")
    np.savez(partial, **found)
    partial.rename(path)


def together(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, float], int]:
    """Gradients n × p and seconds of each way, and the tokens, padding included."""
    files = [np.load(path) for path in sorted(folder.glob("[0-9]*.npz"))]
    order = np.argsort(np.concatenate([file["rows"] for file in files]))
    gradients = {name: np.concatenate([file[name] for file in files])[order] for name in WAYS}
    seconds = {name: sum(float(file[f"{name} seconds"]) for file in files) for name in WAYS}
    return gradients, seconds, sum(int(file["tokens"]) for file in files)


def compare(full: np.ndarray, cheap: np.ndarray) -> dict[str, Any]:
    """Row by row, pair by pair, pick by pick."""
    n = len(full)
    pairs = np.triu_indices(n, 1)
    one, other = (cosines(G)[pairs] for G in (full, cheap))
    found: dict[str, Any] = {
        "norms": spearman(*(np.linalg.norm(G, axis=1) for G in (full, cheap))),
        "cosines": spearman(one, other),
        "reliability": spearman(reliability(full), reliability(cheap)),
    }
    for scale in SCALES:
        G, H = (rescale(rows, scale, 1.0, range(n)) for rows in (full, cheap))
        exact = objective(G, "auto", certified=False)
        for penalty in PENALTIES:
            k = round(SHARE * n)
            best = exact.maximise(k, penalty).picks
            picks = objective(H, "auto", certified=False).maximise(k, penalty).picks
            found[f"{scale}, λ={penalty:g}"] = {
                "overlap": len(set(best) & set(picks)) / k,
                "information": exact.information(picks) / exact.information(best),
            }
    return found


def at_random(full: np.ndarray) -> dict[str, Any]:
    """The same of rows drawn at random."""
    n, rng = len(full), np.random.default_rng(0)
    k = round(SHARE * n)
    found: dict[str, Any] = {}
    for scale in SCALES:
        exact = objective(rescale(full, scale, 1.0, range(n)), "auto", certified=False)
        for penalty in PENALTIES:
            best = exact.maximise(k, penalty).picks
            drawn = [rng.choice(n, k, replace=False).tolist() for _ in range(DRAWS)]
            found[f"{scale}, λ={penalty:g}"] = {
                "overlap": np.mean([len(set(best) & set(S)) / k for S in drawn]),
                "information": np.mean([exact.information(S) for S in drawn])
                / exact.information(best),
            }
    return found


def cosines(G: np.ndarray) -> np.ndarray:
    """n × n."""
    unit = G / np.linalg.norm(G, axis=1, keepdims=True)
    return unit @ unit.T


def reliability(G: np.ndarray) -> np.ndarray:
    """How far the others agree with each row: the mean of its ten largest cosines with them."""
    found = cosines(G)
    np.fill_diagonal(found, -1)
    return np.sort(found, axis=1)[:, -10:].mean(axis=1)


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """The correlation of ranks."""
    return float(np.corrcoef(*(np.argsort(np.argsort(v)) for v in (x, y)))[0, 1])


def table(folder: Path) -> str:
    """As Markdown."""
    gradients, seconds, tokens = together(folder)
    full = gradients[FULL]
    settings = [f"{scale}, λ={penalty:g}" for scale in SCALES for penalty in PENALTIES]
    heads = ["ranks of norms", "of cosines", "of reliability", *settings]
    columns = ["read", "seconds", "ratio", *heads]
    lines = [
        f"{len(full)} rows, {tokens:,} tokens with padding, {round(SHARE * len(full))} picks\n",
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
    ]
    for name, rows in gradients.items():
        found = compare(full, rows)
        ranks = [f"{found[key]:.4f}" for key in ("norms", "cosines", "reliability")]
        lines.append(_line(name, seconds[name], seconds[FULL], ranks, found, settings))
    lines.append(_line("at random", None, 1.0, ["–"] * 3, at_random(full), settings))
    return "\n".join(lines)


def _line(
    name: str,
    seconds: float | None,
    full: float,
    ranks: Sequence[str],
    found: dict[str, Any],
    settings: Sequence[str],
) -> str:
    took = ["–", "–"] if seconds is None else [f"{seconds:.0f}", f"{seconds / full:.2f}"]
    picks = [f"{found[s]['overlap']:.2f}, {found[s]['information']:.4f}" for s in settings]
    return "| " + " | ".join([name, *took, *ranks, *picks]) + " |"


def main() -> None:
    """Read what is missing, and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=Path, default=Path("multirun/real"), metavar="folder")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--only-report", action="store_true", help="of what is on record")
    arguments = parser.parse_args()
    folder = arguments.to.resolve() / "cheaper"
    if not arguments.only_report:
        read(real(arguments.to.resolve()), folder, arguments.minutes)
    told = table(folder)
    (folder / "cheaper.md").write_text(told + "\n", encoding="utf-8")
    print(told)


if __name__ == "__main__":
    main()
