"""What ``spice --help`` prints: every group, its options and what each is, read off the yaml files.

Hydra's own help composes each option twice to list it, which takes seconds with this many.
"""

from __future__ import annotations

from pathlib import Path

USAGE = """\
spice chooses the part of an instruction-tuning pool that is worth training on, trains on it, and
scores the result.

Examples
  spice                                                the embedded sandbox, in a minute
  spice selector=spice_consensus                       rows weighed by how far they can be trusted
  spice selector=random budget=0.05 seed=1             another selector, 5 % of the pool
  spice selector.penalty=0.5 selector.scale=unit       SPICE with a stronger penalty
  spice -m selector=spice,random budget=0.01,0.05,0.1  a sweep, with a table at its end
  spice data=jsonl data.paths=[a.jsonl,b.jsonl.gz] proxy=local proxy.path=DIR model=local \\
        model.path=DIR                                 your own pool and checkpoints

Groups: choose with group=option, * is the default"""

KEYS = """
Keys: budget, seed, until (signals | selection | finetune | scores), plan, cache_dir, lora.*, and
<group>.<key>, such as
  selector.penalty  selector.alpha  selector.stop_ratio  selector.scale  gradients.reduction
  data.paths  data.limit  data.on_bad_row                finetune.learning_rate
  benchmarks.limit  benchmarks.mirror                    benchmarks.allow_code_execution

More
  spice check …          runs nothing: all that is wrong at once, or what would be begun with
  spice diagnose RUN …   bounds, curvature, diversity and overlaps of finished runs
  spice export RUN --to FORM
                         the chosen rows for llamafactory, trl, axolotl, openai, datasets, or as ids
  spice report RUN …     a page to read of runs or a sweep: what, why, whether it helped, the rows
  spice --cfg job        every key with its value (add overrides to see what they change)
  spice --info defaults  where each value comes from
  spice --hydra-help     Hydra's own flags
  -m                     multirun: sweep over comma-separated values, one job after the other, or
                         with hydra/launcher=joblib | submitit_local | submitit_slurm | ray"""


def text(conf: Path) -> str:
    """The whole help for the configuration in ``conf``."""
    import yaml

    entries = yaml.safe_load((conf / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    defaults = {group: option for entry in entries if isinstance(entry, dict)
                for group, option in entry.items()}  # fmt: skip
    groups = [path for path in sorted(conf.iterdir()) if path.is_dir() and path.name != "hydra"]
    lines = [line for group in groups for line in _group(group, defaults.get(group.name))]
    return "\n".join([USAGE, *lines, KEYS])


def _group(folder: Path, default: str | None) -> list[str]:
    """One line per option, the group's name in front of the first."""
    lines = []
    paths = sorted(folder.glob("*.yaml"))
    width = max(len(path.stem) for path in paths)
    for i, path in enumerate(paths):
        name = folder.name if i == 0 else ""
        mark = "*" if path.stem == default else " "
        lines.append(f"  {name:<11}{mark} {path.stem:<{width}}  {first_comment(path)}")
    return lines


def first_comment(path: Path) -> str:
    """The sentence that says what an option is, without Hydra's package line."""
    comments = (
        line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")
    )
    return next((line[2:] for line in comments if not line.startswith("# @package")), "")
