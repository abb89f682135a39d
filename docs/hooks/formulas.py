"""Formulas as MathML, which browsers draw by themselves: no script, no font from elsewhere.

Written as on the hubs: $`inline`$, and blocks fenced by ```math.
"""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

INLINE = re.compile(r"\$<code>(.+?)</code>\$", re.DOTALL)
BLOCK = re.compile(r'<div class="math">(.+?)</div>', re.DOTALL)
TAG = re.compile(r"<[^>]+>")
BARS = re.compile(r"<mo[^>]*>&#x0*2016;</mo>")  # of a norm; they would grow with what is beside


def on_page_content(html: str, **_: Any) -> str:
    """Put the formulas of a rendered page in place."""
    blocks = BLOCK.sub(lambda match: _drawn(match[1], "block"), html)
    return INLINE.sub(lambda match: _drawn(match[1], "inline"), blocks)


def _drawn(code: str, display: str) -> str:
    """One formula; a block may be wider than a phone, and then scrolls by itself."""
    latex = html.unescape(TAG.sub("", code)).strip()
    formula = BARS.sub('<mo stretchy="false">&#x2016;</mo>', convert(latex, display=display))
    return formula if display == "inline" else f'<div class="formula">{formula}</div>'
