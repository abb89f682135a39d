"""What a GPU makes of it: extraction with a proxy of half a billion weights, and the whole pool.

``python -m experiments.performance.cuda`` writes cuda.json and cuda.md beside this file, or to the
folder named by ``--to``; ``--only`` runs a part. ``--quick`` runs tiny sizes, on the CPU if there
is no GPU, and writes nothing.

The model's utilisation is FLOP per second over the device's dense peak in the precision of the
weights, counted as 4·(N·t + H·s): forward and backward to activations take two operations each for
every weight and token. N are the weights of linear layers below the head, t the tokens without
padding, H those of the head, s the supervised tokens. Attention's products, the adapters', the
gradients themselves and all padding are left out. A training step of adapters on frozen weights is
counted alike.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

from experiments.performance import greedy, pools
from experiments.performance.gradient_ways import hooks, loop, step
from experiments.performance.timing import medians
from spice.data.batch_limit import BatchLimit
from spice.data.batches import IGNORED, length_order, pad
from spice.data.rendering import Example
from spice.gradients.per_sample import dimension, per_sample_gradients
from spice.gradients.projection import Sketch
from spice.models.attention import prepare_attention
from spice.models.lora import Lora
from spice.storage import provenance
from spice.submodular.blocked import blocked_greedy

HERE = Path(__file__).parent
PROXY = HERE.parents[1] / "conf/model/qwen2_0_5b.yaml"
SMALLER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 512}
SMALLER |= {"num_attention_heads": 4}
PEAKS = {  # dense FLOP per second, as the maker states them; float32 without TF32
    "H100 PCIe": {"bfloat16": 756e12, "float32": 51e12},
    "H100": {"bfloat16": 989e12, "float32": 67e12},
    "H200": {"bfloat16": 989e12, "float32": 67e12},
    "A100": {"bfloat16": 312e12, "float32": 19.5e12},
}
BUDGET, PROJECTION = BatchLimit(rows=64, tokens=16_384), 8_192
LONGEST, SAMPLED = 512, 8  # of so many rows one is read alone
WHOLE, CHECKED = (97_500, 8_192, 9_750), (20_000, 2_048, 2_000)
QUICK_WHOLE, QUICK_CHECKED = (4_500, 64, 40), (4_200, 32, 20)


def extractions(device: str, quick: bool) -> list[dict[str, Any]]:
    """Of a proxy in half and in single precision."""
    precisions = ("float32",) if quick else ("bfloat16", "float32")
    return [extraction(device, precision, quick) for precision in precisions]


def agreement(device: str, quick: bool) -> dict[str, Any]:
    """The device's picks beside the CPU's."""
    return beside_the_cpu(device, *(QUICK_CHECKED if quick else CHECKED))


def whole(device: str, quick: bool) -> dict[str, Any]:
    """The paper's whole pool."""
    return whole_pool(device, *(QUICK_WHOLE if quick else WHOLE))


PARTS: dict[str, Callable[[str, bool], Any]] = {
    "extraction": extractions,
    "agreement": agreement,
    "greedy": whole,
}


# -- extraction ---------------------------------------------------------------------------------


def extraction(device: str, precision: str, quick: bool) -> dict[str, Any]:
    """Speed and memory of each way, over the same rows in the same batches, as a run goes."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    model = proxy(device, precision, quick)
    examples = rows(8 if quick else 256, model.config.vocab_size)
    batches = batched(examples, device)
    projected = partial(
        per_sample_gradients, model, reduction="mean", sketch=Sketch(PROJECTION, seed=0)
    )
    ways: dict[str, Callable[[dict], Any]] = {
        "training step": partial(step, model),
        "hooks": hooks(model),
        f"hooks, projected to {PROJECTION:,}": projected,
    }
    head = model.get_output_embeddings().weight.numel()
    found = {
        "precision": precision,
        "d": dimension(model),
        "rows": len(examples),
        "tokens": sum(int(b["attention_mask"].sum()) for b in batches),
        "padded": sum(b["input_ids"].numel() for b in batches),
        "supervised": sum(int((b["labels"] != IGNORED).sum()) for b in batches),
        "head": head,
        "below": linear_weights(model) - head,
        "apart": apart(hooks(model), loop(model), batches[-1]),
        "same bits again": alike(projected, batches),
        "peak FLOP/s": peak_rate(device, precision),
    }
    found["ways"] = {name: speed(way, batches, device) for name, way in ways.items()}
    sample = examples[::SAMPLED]
    alone = speed(loop(model), batched(sample, device), device)
    if alone:
        alone["seconds"] *= len(examples) / len(sample)
    found["ways"][f"one row at a time (of {len(sample)} rows)"] = alone
    return found


def proxy(device: str, precision: str, quick: bool) -> torch.nn.Module:
    """Qwen2-0.5B's shape with random weights, and fresh adapters."""
    shape = yaml.safe_load(PROXY.read_text(encoding="utf-8"))["architecture"] | (
        SMALLER if quick else {}
    )
    torch.manual_seed(0)
    with torch.device(device):
        config = AutoConfig.for_model(**shape)
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, precision))
    prepare_attention(model)
    lora = Lora(r=16, alpha=32, dropout=0.0, targets="all-linear")
    return lora.attach(model, 0).to(device).eval()


def rows(count: int, vocabulary: int) -> list[Example]:
    """Lengths around a median of 200 tokens, a third of them the prompt."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(5.3, 0.6, count)), 16, LONGEST).astype(int)
    return [Example(rng.integers(0, vocabulary, n).tolist(), n // 3) for n in lengths]


def batched(examples: list[Example], device: str) -> list[dict[str, Any]]:
    """Batches as extraction cuts them, on the device."""
    order = length_order(examples, range(len(examples))).tolist()
    cuts = BUDGET.cut([len(examples[row].ids) for row in order])
    found = [pad(examples, order[cut], 0) for cut in cuts]
    return [{k: v.to(device) if torch.is_tensor(v) else v for k, v in b.items()} for b in found]


def linear_weights(model: torch.nn.Module) -> int:
    """Weights of linear layers, the head's included and the adapters' not."""
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    return sum(m.weight.numel() for n, m in layers if "lora_" not in n)


def apart(one: Callable, other: Callable, batch: dict[str, Any]) -> float:
    """The largest relative difference of a row's gradient."""
    a, b = one(batch).double(), other(batch).double()
    return float(((a - b).norm(dim=1) / b.norm(dim=1)).max())


def alike(way: Callable, batches: list[dict[str, Any]]) -> bool:
    """Whether two passes give the same bits."""
    return all(torch.equal(way(batch), way(batch)) for batch in batches)


def speed(way: Callable, batches: list[dict[str, Any]], device: str) -> dict[str, float] | None:
    """Seconds of a pass over all batches and the most memory it took; None if that was too much."""

    def once() -> None:
        for batch in batches:
            way(batch)
        if device == "cuda":
            torch.cuda.synchronize()

    try:
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        seconds = medians({"way": once}, 2)["way"]
    except torch.cuda.OutOfMemoryError:
        return None
    return {"seconds": seconds, "peak": device_peak(device)}


def device_peak(device: str) -> int:
    """The most bytes that were in use on the GPU."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else 0


def peak_rate(device: str, precision: str) -> float | None:
    """The device's FLOP per second, where its name is known."""
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    return next((rates[precision] for known, rates in PEAKS.items() if known in name), None)


# -- the greedy ---------------------------------------------------------------------------------


def whole_pool(device: str, n: int, d: int, k: int) -> dict[str, Any]:
    """One run from gradients in the machine's memory: sending them to the device is part of it."""
    problem = greedy.objective(pools.pool(n, d), "blocked")
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    trace = problem.maximise(k, greedy.PENALTY)
    seconds = time.perf_counter() - start
    peak = device_peak(device)
    return {
        "n": n,
        "d": d,
        "k": k,
        "seconds": seconds,
        "peak": peak,
        "operations": trace.operations,
        "drift": trace.drift,
        "as plain products": products(device, trace.operations),
    }


def products(device: str, operations: float) -> float:
    """Seconds that so many operations take as products of large float32 matrices there."""
    size = 8_192 if device == "cuda" else 512
    a, b = (torch.randn(size, size, device=device) for _ in range(2))

    def once() -> None:
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()

    return medians({"product": once}, 5)["product"] / (2 * size**3) * operations


def beside_the_cpu(device: str, n: int, d: int, k: int) -> dict[str, Any]:
    """The same pool on the device and on the CPU."""
    G = pools.pool(n, d)
    squares = greedy.squared_norms(G)
    found = {}
    for place in (device, "cpu"):
        start = time.perf_counter()
        trace = blocked_greedy(
            G,
            k,
            alpha=float(1 / squares.mean()),
            penalty=greedy.PENALTY,
            squares=squares,
            device=place,
        )
        found[place] = {
            "seconds": time.perf_counter() - start,
            "information": sum(trace.gains),
            "picks": trace.picks,
            "scores": trace.scores,
        }
    there, here = found[device], found["cpu"]
    seconds = {place: record["seconds"] for place, record in found.items()}
    return {"n": n, "d": d, "k": k, "seconds": seconds, **greedy.agreement(there, here)}


# -- for a reader -------------------------------------------------------------------------------


def table(found: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    lines = [f"# On {found['device']}", "", "Written by `cuda.py`, which says how MFU is counted."]
    for part in found.get("extraction", []):
        lines += ["", *_extraction(part)]
    for name, write in (("greedy", _greedy), ("agreement", _agreement)):
        lines += ["", *write(found[name])] if name in found else []
    machine = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rest = ", ".join(f"{key}: {value}" for key, value in machine.items() if key != "versions")
    return "\n".join([*lines, "", "## Machine", "", f"{rest}.", "", f"{versions}.", ""])


def _extraction(part: dict[str, Any]) -> list[str]:
    weights = (part["below"] + part["head"]) / 1e6
    padding = part["padded"] / part["tokens"] - 1
    lines = [
        f"## Extraction, {part['precision']}: {weights:,.0f} M weights, d = {part['d']:,}",
        "",
        f"{part['rows']} rows, {part['tokens']:,} tokens, padded by {padding:.0%}. A row's",
        f"gradient differs from that of the row alone by {part['apart']:.0e} of its norm at most,",
        f"and a second pass gives {'the same' if part['same bits again'] else 'other'} bits.",
        "",
        "| | rows/s | tokens/s | MFU | peak | time over a training step's |",
        "|---|---|---|---|---|---|",
    ]
    base = part["ways"]["training step"]
    for name, way in part["ways"].items():
        if way is None:
            lines.append(f"| {name} | out of memory | | | | |")
            continue
        rate = part["rows"] / way["seconds"], part["tokens"] / way["seconds"]
        over = f"{way['seconds'] / base['seconds']:.2f}" if base else "–"
        cells = [f"{rate[0]:,.1f}", f"{rate[1]:,.0f}", _mfu(part, way["seconds"])]
        lines.append(f"| {' | '.join([name, *cells, _gib(way['peak']), over])} |")
    return lines


def _mfu(part: dict[str, Any], seconds: float) -> str:
    operations = 4 * (part["below"] * part["tokens"] + part["head"] * part["supervised"])
    rate = part["peak FLOP/s"]
    return f"{operations / seconds / rate:.1%}" if rate else "–"


def _greedy(g: dict[str, Any]) -> list[str]:
    return [
        f"## The greedy: n = {g['n']:,}, d = {g['d']:,}, k = {g['k']:,}",
        "",
        "| seconds | peak | TFLOP | its operations as plain products | drift of a gain |",
        "|---|---|---|---|---|",
        f"| {g['seconds']:.1f} | {_gib(g['peak'])} | {g['operations'] / 1e12:.2f} "
        f"| {g['as plain products']:.1f} s | {g['drift'] or 0:.0e} |",
    ]


def _agreement(a: dict[str, Any]) -> list[str]:
    at, gap = a["first difference"], a["score gap there"]
    first = "none" if at is None else f"pick {at + 1:,}, scores apart by {gap:.0e}"
    seconds = ", ".join(f"{place} {s:.1f} s" for place, s in a["seconds"].items())
    return [
        f"Beside the CPU, n = {a['n']:,}, d = {a['d']:,}, k = {a['k']:,}: first other pick",
        f"{first}; F(S) apart by {a['information']:.0e}; {seconds}.",
    ]


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--to", type=Path, default=HERE)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not arguments.quick:
        parser.error("there is no CUDA device; --quick runs without")
    path = arguments.to / "cuda.json"
    found = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() and arguments.only else {}
    )
    found["device"] = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    found["machine"] = {**provenance.describe(), "versions": dict(provenance.versions())}
    for name in [arguments.only] if arguments.only else PARTS:
        found[name] = PARTS[name](device, arguments.quick)
        if not arguments.quick:  # part by part: what a limit of time cuts off is the rest alone
            path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            (arguments.to / "cuda.md").write_text(table(found), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
