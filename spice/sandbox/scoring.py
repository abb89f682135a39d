"""The scorers that lm-eval does not bring: verified instructions, probability mass, code."""

from __future__ import annotations

import ast
import functools
import math
from typing import Any

from spice.evaluation.code_execution.pass_at_k import run_program

Doc = dict[str, Any]


def truthful_mass(doc: Doc, results: list[tuple[float, bool]]) -> dict[str, float]:
    """The share of probability on the true answer among all choices, as in TruthfulQA's MC2."""
    logs = [log for log, _ in results]
    weights = [math.exp(log - max(logs)) for log in logs]
    return {"acc": weights[doc["gold"]] / sum(weights)}


def followed(rule: dict[str, str], answer: str) -> bool:
    """Whether an answer obeys one instruction."""
    kind, value = rule["kind"], rule["value"]
    if kind == "mention":
        return value.lower() in answer.lower()
    if kind == "capitals":
        return answer == answer.upper()
    if kind == "brackets":
        return answer.startswith("[") and "]" in answer
    if kind == "mark":
        return answer.endswith(value)
    return answer == value


def verified(doc: Doc, results: list[str]) -> dict[str, float]:
    """1 if every instruction of the prompt is followed to the letter, as in IFEval."""
    answer = results[0].strip()
    return {"prompt_level_strict_acc": float(all(followed(r, answer) for r in doc["rules"]))}


def passes(doc: Doc, results: list[str]) -> dict[str, float]:
    """1 if the given head with the generated code passes the checks, in a process apart."""
    program = f"{doc['head']}{results[0].strip()}\n"
    return {"pass@1": float(_parses(program) and _passes(program, doc["checks"]))}


@functools.cache  # the runs of a sweep mostly write the same programs, and a process costs 30 ms
def _passes(program: str, checks: str) -> bool:
    return run_program(program, test=checks).passed


def _parses(program: str) -> bool:
    try:
        ast.parse(program)
    except (SyntaxError, ValueError):
        return False
    return True
