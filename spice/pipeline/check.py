"""``spice check``: all that a run would be refused for, at once, and what it would be begun with.

Nothing is run, downloaded or written, and no weight is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from omegaconf.errors import OmegaConfBaseException

from spice.data.row_table import sources_of
from spice.errors import InputError
from spice.models.device import memory
from spice.pipeline.checks import checks
from spice.pipeline.draft import Draft
from spice.pipeline.plan.asking import items
from spice.pipeline.plan.shape import Shapes
from spice.storage import disk
from spice.storage.coding import CODINGS
from spice.storage.files import free_bytes

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from spice.pipeline.checks import Check

ROWS = 1000  # that are rendered; the tokens of a larger pool are estimated
NAMED = 6  # sources, benchmarks

Line = tuple[str, str]


def examine(config: DictConfig, folder: Path) -> tuple[list[str], list[Line], list[str]]:
    """All that is wrong; where nothing is, what a run would be begun with, and what to look at."""
    draft = Draft(config, folder, fetch=False)
    if wrong := mistakes(draft):
        return wrong, [], []
    return [], list(found(draft)), list(warnings(draft))


def mistakes(draft: Draft) -> list[str]:
    """What is wrong, each once; empty if a run would begin."""
    found: dict[str, None] = {}
    for check in chain(checks(draft), _between_parts(draft), _read(draft)):
        try:
            check()
        except InputError as error:
            found |= dict.fromkeys(str(error).splitlines())
        except OmegaConfBaseException as error:  # such as a mandatory key left out
            found[str(error).splitlines()[0]] = None
    return list(found)


def _between_parts(draft: Draft) -> Iterator[Check]:
    """What parts ask of each other, which a run asks only once each is right by itself."""
    name = str(draft.config.names.selector)
    yield lambda: draft.group("schedule").check(draft.group("selector"), name)
    yield lambda: draft.group("benchmarks").check()


def _read(draft: Draft) -> Iterator[Check]:
    """What a run would find out on its way: rows and examples that cannot be rendered."""
    yield from (partial(draft.examples, role, ROWS) for role in draft.readers)
    yield partial(_check_targets, draft)


def _check_targets(draft: Draft) -> None:
    renderer = draft.renderer("proxy") if draft.targets else None
    if renderer and not any(example.supervised for example in renderer.encode(draft.targets)):
        raise InputError("validation: none of the examples fits the proxy's context")


def found(draft: Draft) -> Iterator[Line]:
    """What a run would be begun with, where nothing is wrong."""
    yield "pool", _of_pool(draft)
    for role in draft.readers:
        yield role, _of_reader(draft, role)
    for role in draft.readers:
        yield from ((f"lora of {role}", told) for told in _of_adapters(draft, role))
    name = draft.config.names.selector
    yield "selector", f"{name}, {draft.k:,} of {len(draft.pool.rows):,} rows"
    if draft.targets:
        subtasks = len({row.source for row in draft.targets})
        yield "validation", f"{len(draft.targets):,} examples of {subtasks} subtasks"
    yield "benchmarks", _of_benchmarks(draft)
    yield "cache_dir", f"{draft.cache}, {free_bytes(draft.cache) / 1e9:,.1f} GB free"
    yield "run folder", f"{draft.folder}, {free_bytes(draft.folder) / 1e9:,.1f} GB free"


def warnings(draft: Draft) -> Iterator[str]:
    """What should be looked at, though a run would begin."""
    yield from draft.pool.notes
    if skipped := draft.pool.skipped:
        yield f"{len(skipped):,} rows would be skipped, the first: {skipped[0]}"
    for role in draft.readers:
        yield from (f"{role}: {told}" for told in draft.notes(role))
        yield from _of_memory(draft, role)
        if (read := draft.examples(role, ROWS)) and (
            empty := [e for e in read if not e.supervised]
        ):
            yield (
                f"{len(empty):,} of {len(read):,} rows leave the {role} nothing to learn from: "
                "their prompts fill its tokens"
            )
    if (needed := _gradient_bytes(draft)) > (free := free_bytes(draft.cache)):
        yield (
            f"the gradients take {needed / 1e9:,.1f} GB, and cache_dir has {free / 1e9:,.1f} GB "
            "free; gradients.projection and gradients.dtype make them smaller"
        )


def _of_memory(draft: Draft, role: str) -> Iterator[str]:
    held, machine = draft.weight_bytes(role) or 0, draft.group("trainer")
    here, checkpoint = memory(machine.accelerator), draft.checkpoint(role)
    if held > here and machine.parts > 1:
        held -= Shapes(machine.accelerator, machine.parts).spared(checkpoint)
    if held > here:
        fewer = f"{role}.quantization=4bit is less, and trainer.strategy=fsdp divides them"
        yield (
            f"{role}: its weights take {disk.size(held)}, and there are {disk.size(here)} of "
            f"memory{'' if checkpoint.quantization or machine.parts > 1 else f'; {fewer}'}"
        )


def _of_pool(draft: Draft) -> str:
    counts = Counter(sources_of(draft.pool.rows)).most_common()
    named = ", ".join(f"{source} {count:,}" for source, count in counts[:NAMED])
    more = f" and {len(counts) - NAMED} more" if len(counts) > NAMED else ""
    return f"{len(draft.pool.rows):,} rows of {len(counts)} sources: {named}{more}"


def _of_reader(draft: Draft, role: str) -> str:
    checkpoint, renderer = draft.checkpoint(role), draft.renderer(role)
    read = draft.examples(role, ROWS)
    if renderer is None or read is None:
        known = (
            f"; {_of_shape(draft, role)} by its published shape" if checkpoint.architecture else ""
        )
        return f"{checkpoint.path}: to be downloaded; what is in it could not be looked at{known}"
    config, times = checkpoint.config(), len(draft.pool.rows) / len(read)
    all_, learnt = (round(times * sum(counts)) for counts in
                    ([len(e.ids) for e in read], [e.supervised for e in read]))  # fmt: skip
    about = "" if times == 1 else "about "
    return (
        f"{config.model_type}, {_of_shape(draft, role)}, {config.num_hidden_layers} "
        f"layers of {config.hidden_size}, up to {renderer.max_tokens:,} tokens, "
        f"{'chat' if renderer.chat else 'plain'} template; the pool is {about}{all_:,} tokens, "
        f"{learnt:,} of them learnt"
    )


def _of_shape(draft: Draft, role: str) -> str:
    checkpoint = draft.checkpoint(role)
    model, held = draft.bare(role) or checkpoint.skeleton(), draft.weight_bytes(role) or 0
    as_what = checkpoint.quantization or checkpoint.dtype
    return f"{model.num_parameters():,} parameters of {disk.size(held)} in {as_what}"


def _of_adapters(draft: Draft, role: str) -> Iterator[str]:
    for lora, model in zip(draft.adapters(role), draft.adapted(role), strict=False):
        factors = [p for p in model.parameters() if p.requires_grad]
        size = sum(p.numel() for p in factors)
        yield f"r={lora.r}, {len(factors)} factors of {size:,} parameters"


def _gradient_bytes(draft: Draft) -> int:
    """What the stored gradients of a pool take, read at a fresh adapter: those of B alone."""
    extraction, adapters = draft.group("gradients"), draft.adapters("proxy")
    stored = draft.group("schedule").needs(draft.group("selector"))
    if not stored or extraction.lora not in adapters or not draft.adapted("proxy"):
        return 0
    model = draft.adapted("proxy")[adapters.index(extraction.lora)]
    d = sum(p.numel() for name, p in model.named_parameters() if "lora_B" in name)
    layout = CODINGS[extraction.dtype].layout(extraction.projection or d)
    return len(draft.pool.rows) * sum(kind.itemsize * count for kind, count in layout.values())


def _of_benchmarks(draft: Draft) -> str:
    suite = draft.group("benchmarks")
    told = [f"{name} ({_items(draft, name)})" for name in suite.names]
    return ", ".join(told) or "none"


def _items(draft: Draft, name: str) -> str:
    suite = draft.group("benchmarks")
    if reason := suite.skip_reason(name):
        return f"skipped: {reason}"
    if suite.tasks[name].source is None:  # lm-eval's own take long to read
        return f"data of {', '.join(suite.tasks[name].datasets)}"
    with TemporaryDirectory() as cache:
        return f"{sum(items(suite, name, Path(cache))):,} items"
