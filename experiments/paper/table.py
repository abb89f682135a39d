"""A table whose numbers have their intervals, and the paper's beside them, in three forms."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cell:
    """A number of ours with its interval and n; ``paper`` is what the paper has in its place.

    The difference between the two is told where they are ``comparable``, as of one unit.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    paper: float | None = None
    form: str = ".1f"
    comparable: bool = True

    @classmethod
    def of(cls, facts: Mapping[str, Any] | None, paper: float | None = None) -> Cell:
        """A score from an estimate as it is kept; None where nothing was measured.

        Student's interval does not know that scores end at 0 and 100.
        """
        if facts is None:
            return cls(paper=paper)
        count, low, high = facts["items"] * facts["seeds"], facts["low"], facts["high"]
        return cls(facts["mean"], max(low, 0.0), min(high, 100.0), count, paper)

    @property
    def ours(self) -> str:
        """The number and its interval."""
        if self.value is None:
            return "–"
        told = self._told(self.value)
        if self.low is None or self.high is None or self.low == self.high:
            return told
        return f"{told} ({self._told(self.low)} to {self._told(self.high)})"

    @property
    def theirs(self) -> str:
        """The paper's number and how far ours is from it; nothing where it has none."""
        if self.paper is None:
            return ""
        if self.value is None or not self.comparable:
            return f"paper {self._told(self.paper)}"
        return f"paper {self._told(self.paper)} ({self.value - self.paper:+{self.form}})"

    def _told(self, value: float) -> str:
        return f"{value:{self.form}}"


@dataclass(frozen=True)
class Line:
    """One row; those that the paper has not stand below a line."""

    name: str
    cells: Sequence[Cell]
    in_paper: bool = True


@dataclass(frozen=True)
class Table:
    """Cells by row and column, with what is to be said below."""

    title: str
    columns: Sequence[str]
    lines: Sequence[Line]
    sentences: Sequence[str] = ()
    footnotes: Sequence[str] = ()
    corner: str = "selector"
    picture: str | None = None
    sections: Mapping[str, str] = field(default_factory=dict)

    @property
    def ordered(self) -> list[Line]:
        """The paper's rows first."""
        return sorted(self.lines, key=lambda line: not line.in_paper)

    def write(self, folder: Path) -> None:
        """``table.md``, ``table.csv`` and ``table.tex``."""
        for name, text in self.texts().items():
            (folder / name).write_text(text, encoding="utf-8")

    def texts(self) -> dict[str, str]:
        """The three by their names."""
        return {"table.md": self.markdown(), "table.csv": self.csv(), "table.tex": self.latex()}

    def markdown(self) -> str:
        """For a reader on the web."""
        head = [self.corner, *self.columns]
        rows = [head, ["---"] * len(head)]
        below = False
        for line in self.ordered:
            if not line.in_paper and not below and any(one.in_paper for one in self.lines):
                rows.append(["*not in the paper*", *[""] * len(self.columns)])
                below = True
            cells = ("<br>".join(filter(None, (c.ours, c.theirs))) for c in line.cells)
            rows.append([line.name, *cells])
        parts = [f"# {self.title}", "\n".join(map(_markdown, rows))]
        if self.picture:
            parts.append(f"![{self.title}]({self.picture})")
        if self.sentences:
            parts += ["## Verdicts", "\n".join(f"- {told}" for told in self.sentences)]
        parts += [f"## {title}\n\n{text}" for title, text in self.sections.items()]
        parts += ["\n".join(f"- {note}" for note in self.footnotes)] if self.footnotes else []
        return "\n\n".join(parts) + "\n"

    def csv(self) -> str:
        """A line for each cell."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([self.corner, "column", "value", "low", "high", "n", "paper"])
        for line in self.ordered:
            for column, c in zip(self.columns, line.cells, strict=True):
                numbers = (c.value, c.low, c.high, c.n, c.paper)
                told = ("" if x is None else f"{x:.6g}" for x in numbers)
                writer.writerow([line.name, column, *told])
        return text.getvalue()

    def latex(self) -> str:
        """For booktabs: ours with half the interval, the paper's small below it."""
        width = len(self.columns)
        rows = [r"\begin{tabular}{l" + "r" * width + "}", r"\toprule"]
        rows += [_row([self.corner, *self.columns]), r"\midrule"]
        below = False
        for line in self.ordered:
            if not line.in_paper and not below and any(one.in_paper for one in self.lines):
                rows.append(r"\midrule")
                below = True
            rows.append(_row([line.name, *map(_latex, line.cells)], escaped=True))
            papers = [c.paper for c in line.cells]
            if any(paper is not None for paper in papers):
                told = ("" if p is None else rf"{{\scriptsize {p:.1f}}}" for p in papers)
                rows.append(_row([r"{\scriptsize paper}", *told], escaped=True))
        return "\n".join([*rows, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _markdown(row: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _latex(cell: Cell) -> str:
    if cell.value is None:
        return "--"
    if cell.low is None or cell.high is None:
        return f"{cell.value:{cell.form}}"
    half = (cell.high - cell.low) / 2
    return rf"{cell.value:{cell.form}} {{\tiny $\pm$ {half:{cell.form}}}}"


def _row(cells: Sequence[str], escaped: bool = False) -> str:
    texts = [cells[0].replace("_", r"\_"), *cells[1:]]
    if not escaped:
        texts = [text.replace("_", r"\_").replace("%", r"\%") for text in cells]
    return " & ".join(texts) + r" \\"
