"""What is measured: benchmarks by lm-eval's task names, and the suite that a run scores.

Nothing here imports lm-eval, torch or datasets, so that a mistake is told within milliseconds.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

from spice.errors import InputError, did_you_mean
from spice.evaluation import data_sets
from spice.evaluation.code_execution.pass_at_k import sandbox_available
from spice.storage.seals import hash_of
from spice.values import Count, FilePath, Name, Names, Some, Told, Whole, component

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
CONSENT = "benchmarks.allow_code_execution=true"


@component
class Benchmark:
    """One benchmark: a task or group of lm-eval, its shots and its headline metric.

    ``metric`` is lm-eval's key, ``metric,filter``. ``datasets`` are the hub ids that it reads and
    a mirror therefore has to hold. ``include_path`` is the folder with the task's yaml, as a path
    or as ``package:folder``; without it lm-eval indexes all of its own tasks, which takes seconds.
    ``split`` is scored instead of the task's own. ``punkt`` lists the instructions (IFEval) that
    only nltk's ``punkt_tab`` data can check; without that data their items are left out. ``limit``
    scores the first N items of each subtask, if the suite's own limit is not less.
    """

    name: Name
    task: Name
    shots: Whole
    metric: Name
    datasets: Names = ()
    runs_code: bool = False
    include_path: FilePath | None = None
    split: Name | None = None
    punkt: Names = ()
    limit: Count | None = None

    @property
    def folder(self) -> Path | None:
        """The folder named by ``include_path``."""
        if self.include_path is None:
            return None
        package, _, inside = self.include_path.rpartition(":")
        return _package(package) / inside if package else Path(inside).expanduser()

    @property
    def source(self) -> Path | None:
        """The folder whose code decides the task: a package whole, since its yaml files call into
        it; none for lm-eval's own tasks, which its version identifies."""
        package = (self.include_path or "lm_eval:").rpartition(":")[0]
        if package.partition(".")[0] == "lm_eval":
            return None
        return _package(package) if package else self.folder

    def check(self) -> None:
        """Refuse what cannot be scored.

        Raises:
            InputError: an option outside its range, or a task that lm-eval does not know.
        """
        key = f"benchmarks.tasks.{self.name}"
        if "," not in self.metric:
            raise InputError(f"{key}.metric={self.metric}: must be lm-eval's 'metric,filter'")
        if self.folder is not None and not self.folder.is_dir():
            raise InputError(f"{key}.include_path: no such folder: {self.folder}")
        known = _task_names(self.folder or _package("lm_eval.tasks"))
        if self.task not in known:
            raise InputError(f"{key}.task: no task '{self.task}'.{did_you_mean(self.task, known)}")


@component
class Suite:
    """The benchmarks of a run and how they are scored; empty ``tasks`` score nothing.

    ``only`` picks some of ``tasks`` by name. ``mirror`` is a folder that holds every hub dataset
    as ``<org>/<name>``, and with it the network is not touched. ``limit`` scores the first N items
    of each (sub)task. ``chat`` asks through the renderer's template instead of lm-eval's plain
    few-shot text. ``max_new_tokens`` caps what a task lets the model generate.
    """

    tasks: Mapping[str, Benchmark] = field(default_factory=dict)
    only: Annotated[Name | Some | None, Told("must be a name or a list of names, or null")] = None
    mirror: FilePath | None = None
    limit: Count | None = None
    allow_code_execution: bool = False
    batch_size: Count = 64
    chat: bool = False
    max_new_tokens: Count | None = None

    @property
    def names(self) -> list[str]:
        """The benchmarks to score, in their order."""
        only = self._only
        return [name for name in self.tasks if only is None or name in only]

    @property
    def mirror_path(self) -> Path | None:
        """The mirror's folder."""
        return None if self.mirror is None else Path(self.mirror).expanduser()

    def check(self, aimed_at: bool = False) -> None:
        """Refuse, before any model is loaded, what would fail after it was trained.

        ``aimed_at`` says that the development examples are read, of what is not scored too.

        Raises:
            InputError: an unknown name, an option outside its range, a task that cannot be scored,
                or a mirror that lacks its data.
        """
        for name, benchmark in self.tasks.items():
            _check_name(name, benchmark)
        for name in self._only or ():
            if name not in self.tasks:
                hint = did_you_mean(name, self.tasks) or f" Known: {', '.join(self.tasks)}."
                raise InputError(f"benchmarks.only: no benchmark '{name}'.{hint}")
        if self.mirror_path is not None and not self.mirror_path.is_dir():
            raise InputError(f"benchmarks.mirror: no such folder: {self.mirror_path}")
        for name in self.names:
            self._benchmark(name).check()
        if self.mirror_path is not None:
            for name, hub_id in self._data_sets(aimed_at):
                data_sets.check_mirrored(name, self.mirror_path / hub_id)

    def check_data(self, cache: Path, aimed_at: bool) -> None:
        """Refuse, where there is no mirror, data that is neither in the cache nor to be had.

        Raises:
            InputError: the hub does not give a data set, and ``cache`` does not hold it.
        """
        if self.mirror_path is None:
            data_sets.check_available(self._data_sets(aimed_at), cache)

    def skip_reason(self, name: str) -> str | None:
        """Why a benchmark must not be scored here, or None."""
        if not self._benchmark(name).runs_code:
            return None
        if not self.allow_code_execution:
            return f"runs generated code, which needs consent: {CONSENT}"
        return sandbox_available()

    def fingerprint(self, name: str) -> dict[str, Any]:
        """All that decides a benchmark's score besides the model, its tokenizer and the renderer.

        The caller adds the seed and the model's context. Data from the hub is known only by its
        id; a mirror's is known by its bytes.
        """
        benchmark = self._benchmark(name)
        sources = {i: self.mirror_path and digest(self.mirror_path / i) for i in benchmark.datasets}
        return {
            "task": benchmark.task,
            "shots": benchmark.shots,
            "metric": benchmark.metric,
            "split": benchmark.split,
            "limit": self.limit_of(name),
            "chat": self.chat,
            "max_new_tokens": self.max_new_tokens,
            "lm_eval": importlib.metadata.version("lm_eval"),
            "datasets": sources,
            "code": benchmark.source and digest(benchmark.source, (".py", ".yaml", "")),
            "skipped": self.skip_reason(name),
            "left_out": sorted(self.left_out(name)),
        }

    def limit_of(self, name: str) -> int | None:
        """How many items of each subtask are scored: the suite's limit or the benchmark's, the
        smaller; None for all."""
        given = [self.limit, self._benchmark(name).limit]
        return min((limit for limit in given if limit is not None), default=None)

    def left_out(self, name: str) -> frozenset[str]:
        """The instructions whose items cannot be checked, because ``punkt_tab`` is missing."""
        needed = frozenset(self._benchmark(name).punkt)
        return needed if needed and not _find_punkt(self.mirror_path) else frozenset()

    def _data_sets(self, aimed_at: bool) -> list[tuple[str, str]]:
        """What is read, by the benchmark and the hub's name of the data set."""
        read = [name for name in self.names if aimed_at or self.skip_reason(name) is None]
        return [(name, hub_id) for name in read for hub_id in self.tasks[name].datasets]

    @property
    def _only(self) -> tuple[str, ...] | None:
        return (self.only,) if isinstance(self.only, str) else self.only

    def _benchmark(self, name: str) -> Benchmark:
        if name not in self.tasks:
            raise InputError(f"no benchmark '{name}'.{did_you_mean(name, self.tasks)}")
        return self.tasks[name]


def _check_name(name: str, benchmark: Benchmark) -> None:
    """A benchmark's name names a file of the run folder, and must name none elsewhere."""
    if not NAME.fullmatch(name):
        raise InputError(
            f"benchmarks.tasks: a benchmark is named {name!r}; names are letters, digits, '_', '-' "
            "and '.', and begin with none of the last two"
        )
    if benchmark.name != name:
        raise InputError(f"benchmarks.tasks.{name}.name={benchmark.name!r}: must be '{name}'")


def _package(name: str) -> Path:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"benchmarks: include_path names no package: {name}")
    return Path(spec.submodule_search_locations[0])


@functools.cache
def _task_names(folder: Path) -> set[str]:
    """The tasks and groups that a folder's yaml files define; lm-eval itself is far slower."""
    defined = re.compile(r"^(?:task|group):[ \t]*[\"']?([\w.:-]+)", re.MULTILINE)
    texts = (path.read_text(encoding="utf-8") for path in folder.rglob("*.yaml"))
    return {name for text in texts for name in defined.findall(text)}


def digest(folder: Path, suffixes: tuple[str, ...] | None = None) -> str:
    """A hash of the names and bytes of the files under a folder, all or those with a suffix.

    Files that stay the same are read once.
    """
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        wanted = suffixes is None or path.suffix in suffixes
        if wanted and path.is_file() and "__pycache__" not in inside.parts:
            total.update(f"{inside.as_posix()}\0{hash_of(path)}\0".encode())
    return total.hexdigest()[:16]


def _find_punkt(mirror: Path | None) -> bool:
    """Whether nltk's sentence splitter is on this machine or in the mirror.

    Looks where ``nltk.data.find`` looks, without the three seconds that importing nltk takes.
    """
    prefix = Path(sys.prefix)
    folders = [Path(p) for p in os.environ.get("NLTK_DATA", "").split(os.pathsep) if p]
    folders += [Path.home() / "nltk_data", mirror / "nltk_data" if mirror else prefix]
    folders += [p / "nltk_data" for p in (prefix, prefix / "share", prefix / "lib")]
    folders += [Path("/usr", *p, "nltk_data") for p in (["share"], ["local", "share"], ["lib"])]
    folders += [Path("/usr/local/lib/nltk_data")]
    found = ("punkt_tab", "punkt_tab.zip")
    return any((folder / "tokenizers" / name).exists() for folder in folders for name in found)
