"""Input that cannot work: refused at once, in plain words, and nothing is begun or written."""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.faults.cases import CHOSEN, POOL, QUIET, Tally
from experiments.faults.jobs import Jobs

ROW = {"instruction": "Name a colour.", "input": "", "response": "Red."}
#: lines of a run that has begun what costs something
COSTLY = re.compile(r"\b(gradients|losses|embeddings|finetune|selection|scores)\b.*\bkey [0-9a-f]+")
LONGEST = 40  # seconds that saying no may take, on a busy machine


@dataclass(frozen=True)
class Bad:
    """One mistake: overrides (``{here}`` is its folder), and what the answer has to name."""

    name: str
    overrides: tuple[str, ...]
    named: tuple[str, ...]
    files: tuple[tuple[str, bytes], ...] = ()


def option(override: str, *named: str) -> Bad:
    """A key with a value that cannot be; the answer names the key unless told otherwise."""
    return Bad(override, (override,), named or (override.lstrip("+").partition("=")[0],))


def pool(name: str, file: str, content: bytes, *named: str, extra: tuple[str, ...] = ()) -> Bad:
    """A pool in a file; the answer names the file unless told otherwise."""
    overrides = ("data=jsonl", f"data.paths=[{{here}}/{file}]", *extra)
    return Bad(name, overrides, named or (file,), ((file, content),))


def lines(*records: object) -> bytes:
    """JSON lines."""
    return "".join(json.dumps(record) + "\n" for record in records).encode()


OPTIONS = [
    option("seed=-1"), option("seed=1.5"), option("seed=abc"), option("seed=true"),
    option("budget=0"), option("budget=1.5"), option("budget=nan"), option("budget=true"),
    option("budget=241"), option("plan=no"), option("plan=1"), option("limits.hours=nan"),
    option("limits.memory_gb=-1"), option("lora.r=0"), option("lora.alpha=nan"),
    option("lora.dropout=1.5"), option("lora.targets='('"), option("lora.targets=[nothing]"),
    option("gradients.dtype=float8"), option("gradients.batch_tokens=0"),
    option("gradients.shard_rows=true"), option("gradients.projection=-4"),
    option("gradients.reduction=median"), option("selector.penalty=-0.1"),
    option("selector.penalty=inf"), option("selector.alpha=0"), option("selector.fisher=exakt"),
    option("selector.keep_zero=yes"), option("selector.stop_ratio=2"),
    option("selector.quotas={math: 2}"), option("selector.penalti=1", "penalty"),
    option("selector=spyce", "spice"), option("data.size=1e30"), option("data.seed=null"),
    option("data.kinds={clean: -1}", "data.kinds.clean"), option("schedule=pool", "pools"),
    option("trainer.devices=0"), option("trainer.accelerator=gpu"), option("trainer.precision=7"),
    option("logger.wandb=on"), option("template.mode=chatty"), option("template.max_tokens=1"),
    option("proxy=local", "proxy.path"), option("cache_dir=null"), option("card.compare=5"),
]  # fmt: skip
TUNING = [
    Bad(override, ("selector=random", f"{override}"), (override.partition("=")[0],))
    for override in (
        "finetune.learning_rate=inf", "finetune.epochs=0", "finetune.clip=-1",
        "finetune.decay=cosinus", "finetune.batch_size=0.5", "finetune.warmup_ratio=7",
        "benchmarks.limit=0", "benchmarks.only=5", "benchmarks.only=[mmmlu]",
        "benchmarks.allow_code_execution=no",
    )
]  # fmt: skip
POOLS = [
    pool("a file that is not there", "a.jsonl", b"", "b.jsonl",
         extra=("data.paths=[{here}/b.jsonl]",)),
    pool("an empty file", "a.jsonl", b""),
    pool("broken JSON", "a.jsonl", lines(ROW) + b'{"instruction": \n', "a.jsonl:2"),
    pool("not UTF-8", "a.jsonl", lines(ROW) + b'{"instruction": "\xff"}\n', "a.jsonl:2"),
    pool("a list in a row's place", "a.jsonl", lines([1, 2]), "a.jsonl:1"),
    pool("numbers for text", "a.jsonl", lines({**ROW, "response": 7}), "a.jsonl:1", "response"),
    pool("no answer", "a.jsonl", lines({**ROW, "response": " "}), "a.jsonl:1", "response"),
    pool("no known field", "a.jsonl", lines({"foo": "x", "bar": "y"}), "a.jsonl:1"),
    pool("half a gzip", "a.jsonl.gz", gzip.compress(lines(*[ROW] * 999))[:40]),
    pool("no Parquet", "a.parquet", b"PAR1 and then nothing"),
    pool("an unknown format", "a.xlsx", b"PK", "a.xlsx"),
    pool("half a character", "a.jsonl", b'{"instruction": "\\ud83d", "response": "x"}\n',
         "a.jsonl:1"),
    pool("a turn of no known role", "a.jsonl",
         lines({"messages": [{"role": "martian", "content": "x"}]}), "a.jsonl:1", "martian"),
    pool("a tool call", "a.jsonl", lines({"messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}]}),
        "a.jsonl:1"),
    pool("two turns of one role", "a.jsonl", lines({"messages": [
        {"role": "user", "content": "x"}, {"role": "user", "content": "y"},
        {"role": "assistant", "content": "z"}]}), "a.jsonl:1"),
    pool("a column that is not there", "a.jsonl", lines(ROW), "question",
         extra=("data.columns={instruction: question}",)),
    pool("a field that is not ours", "a.jsonl", lines(ROW), "instructions",
         extra=("data.columns={instructions: question}",)),
    pool("a limit of nothing", "a.jsonl", lines(ROW), "data.limit", extra=("data.limit=0",)),
    pool("a word for on_bad_row", "a.jsonl", lines(ROW), "data.on_bad_row",
         extra=("data.on_bad_row=ignore",)),
]  # fmt: skip


def checkpoint(name: str, *named: str, **files: bytes) -> Bad:
    """A folder that is no checkpoint; the answer names the folder unless told otherwise."""
    written = tuple((f"model/{file.replace('__', '.')}", text) for file, text in files.items())
    overrides = ("selector=spice", "proxy=local", "proxy.path={here}/model")
    return Bad(name, overrides, named or ("model",), written)


CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8}
CHECKPOINTS = [
    checkpoint("no folder"),
    checkpoint("a folder with nothing of a model in it", readme=b"hello"),
    checkpoint("a configuration that is a list", config__json=b"[1]"),
    checkpoint("a configuration of no kind", config__json=b"{}"),
    checkpoint("a configuration and no weights", config__json=json.dumps(CONFIG).encode()),
    checkpoint("an adapter without its base", adapter_config__json=b"{}",
               adapter_model__safetensors=b"x"),
    checkpoint("weights to unpickle", config__json=json.dumps(CONFIG).encode(),
               pytorch_model__bin=b"x"),
    checkpoint("quantised weights", config__json=json.dumps(
        CONFIG | {"quantization_config": {"quant_method": "bitsandbytes"}}).encode(),
        model__safetensors=b"x"),
]  # fmt: skip
OTHERS = [
    Bad("benchmarks without a hub or a mirror", ("benchmarks=paper", "selector=random"),
        ("benchmarks.mirror",)),
    Bad("a mirror that is not there",
        ("benchmarks=paper", "benchmarks.mirror={here}/mirror", "selector=random"), ("mirror",)),
    Bad("a class of somebody else's", ("selector._target_=os.system",), ("os.system",)),
    Bad("validation examples that are not there",
        ("selector=less", "validation=jsonl", "validation.paths=[{here}/none.jsonl]"),
        ("none.jsonl",)),
]  # fmt: skip
CHOOSING = [*POOL, *CHOSEN, *QUIET, "selector=spice"]
SCORING = [*POOL, *QUIET]


def all_bad() -> list[tuple[list[str], Bad]]:
    """Every mistake with the run that it is made in."""
    choosing = [(CHOOSING, bad) for bad in [*OPTIONS, *CHECKPOINTS]]
    pools = [(["budget=0.5", *CHOSEN, *QUIET, "selector=random"], bad) for bad in POOLS]
    tuning = [(SCORING, bad) for bad in [*TUNING, *OTHERS]]
    return [*choosing, *pools, *tuning]


def refused(jobs: Jobs, home: Path, number: int, tally: Tally) -> None:
    """One case: exit 2, no traceback, the culprit named, nothing costly begun, nothing written."""
    common, bad = all_bad()[number]
    folder = home / f"input-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in bad.files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    own = [override.replace("{here}", str(folder)) for override in bad.overrides]
    keys = {override.partition("=")[0] for override in own}
    kept = [override for override in common if override.partition("=")[0] not in keys]
    places = [f"cache_dir={folder / 'cache'}", f"hydra.run.dir={folder / 'run'}"]
    kept += [place for place in places if place.partition("=")[0] not in keys]
    ended = jobs.run(*kept, *own, folder=folder, timeout=120, HF_HUB_OFFLINE="1")
    problems = [
        "" if ended.code == 2 else ended.brief(),
        "a traceback" if ended.traceback else "",
        "something costly was begun" if COSTLY.search(ended.said) else "",
        "" if ended.seconds < LONGEST else f"said so after {ended.seconds:.0f} s",
        "results were written" if (folder / "run/results.json").exists() else "",
    ]
    if ended.code == 2:
        problems += [f"does not name {w}: {ended.brief()}" for w in bad.named
                     if w not in ended.refusal]  # fmt: skip
    tally.tell("input", bad.name, problems)
    shutil.rmtree(folder, ignore_errors=True)


def numbers(cases: int, seed: int) -> Iterator[int]:
    """Which mistakes to make: all, or a draw of them."""
    order = list(range(len(all_bad())))
    random.Random(f"inputs {seed}").shuffle(order)
    yield from order[:cases]
