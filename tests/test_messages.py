"""Texts of anybody's, as a terminal, a log and a page may have them."""

from __future__ import annotations

import doctest
import logging
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from spice import messages
from spice.messages import Shown, in_markdown, say, shown, warn

BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
MEAN = [
    "<script>alert(1)</script>", "<!-- gone", "&lt;b&gt;", "![x](https://a.example/x.png)",
    "[x](javascript:alert(1))", "[x][y]", "https://a.example", "www.a.example", "`code`", "**b**",
    "_a_", "a | b", "~~gone~~", "a\n# heading", "a\r\n| b |", "\x1b[31mred\x1b[0m", "\\", "\\<b>",
    "<https://a.example>", "a\\`b`", "\u202egnp.exe",
]  # fmt: skip


def test_the_examples_of_the_docstrings() -> None:
    assert doctest.testmod(messages) == (0, 2)


@given(st.text(st.characters() | st.sampled_from("\x1b\r\n\t\x00\x9b" + BIDI)))
def test_what_is_shown_holds_no_controls_and_loses_nothing(text: str) -> None:
    line = shown(text)
    assert not [c for c in line if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in BIDI]
    line.encode()
    assert shown(line) == line
    assert shown(text, lines=True).replace("\n", "\\n").replace("\t", "\\t") == line


@pytest.mark.parametrize("text", MEAN)
def test_markdown_shows_a_text_and_does_nothing_else(text: str) -> None:
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for page, inside in ((f"From {text}", 0), (f"| a |\n|---|\n| {text} |", 1)):
        escaped = page.replace(text, in_markdown(text))
        tags = ["table", "tr", "th", "tr", "td"] if inside else ["p"]
        assert _tags(parser.render(escaped)) == tags
        assert shown(text) in _text(parser.render(escaped))


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_comment(self, data: str) -> None:
        self.tags.append("comment")

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(page: str) -> _Page:
    reader = _Page()
    reader.feed(page)
    return reader


def _tags(page: str) -> list[str]:
    return [tag for tag in _read(page).tags if tag not in ("thead", "tbody")]


def _text(page: str) -> str:
    return _read(page).text


def test_what_is_said_obeys_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "spice"):
        say("pool", "source \x1b[2J\u202e")
        warn("pool", "two\nlines \r")
    assert [record.getMessage() for record in caplog.records] == [
        "pool        source \\x1b[2J\\u202e", "pool        warning: two\nlines \\r",
    ]  # fmt: skip


def test_what_others_log_obeys_nobody_either() -> None:
    record = logging.LogRecord("other", 20, "", 0, "%s", ("\x1b[2J\nb",), None)
    assert Shown("%(levelname)s %(message)s").format(record) == "INFO \\x1b[2J\nb"
