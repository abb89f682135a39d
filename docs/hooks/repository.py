"""Links that leave ``docs/`` stay inside the site: what they name becomes a page of it.

The README is the first page. A Markdown file elsewhere becomes a page with all that it links to, a
source file or a notebook a page of code, anything else is copied. So each link works in the
repository and in a site that lies in a folder. A link of these pages to what is not there ends a
strict build; one of a study, whose results may be still to come, is shown as words.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
OUTSIDE = "repository/"  # where the site has what lies outside of docs/
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
WHOLE = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)[^)]*\)")
FENCE = re.compile(r"(?ms)^([ \t]*)(```+|~~~+).*?^\1\2[ \t]*$")
CODE = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".json": "json", "": "text"}
HIDDEN = "---\nsearch:\n  exclude: true\n---\n\n"


def on_files(files: Files, config: Any) -> Files:
    """Add the README as the first page, and everything that pages link to."""
    _add(files, config, "README.md")
    todo = [file for file in files if file.is_documentation_page()]
    while todo:
        page = todo.pop()
        for target in _targets(page):
            if files.get_file_from_path(_uri(target)) is None and (ROOT / target).is_file():
                added = _add(files, config, target)
                todo += [added] if target.endswith(".md") else []
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point the links of a page to where the site has what they name."""
    here = _place(page.file.src_uri)
    if here is None:
        return markdown
    start = os.path.dirname(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        target = _resolved(here, match[1])
        return match[1] if target is None else os.path.relpath(_uri(target), start or ".")

    def whole(match: re.Match[str]) -> str:
        target = _resolved(here, match[2])
        return match[0] if target is None or (ROOT / target).exists() else match[1]

    if page.file.src_uri.startswith(OUTSIDE):
        markdown = _outside_fences(markdown, lambda text: WHOLE.sub(whole, text))
    return _outside_fences(markdown, lambda text: LINK.sub(moved, text))


def _add(files: Files, config: Any, path: str) -> File:
    uri, source = _uri(path), ROOT / path
    if uri.endswith(".md"):
        file = File.generated(config, uri, content=_page(path, source.read_text(encoding="utf-8")))
    else:
        file = File.generated(config, uri, abs_src_path=str(source))
    files.append(file)
    return file


def _page(path: str, text: str) -> str:
    """A file's text as a page; those that are looked up from elsewhere are no hits of a search."""
    suffix = PurePosixPath(path).suffix
    if path == "README.md":
        return text
    if suffix == ".md":
        return HIDDEN + text
    if suffix == ".ipynb":
        return HIDDEN + "\n\n".join(_cell(cell) for cell in json.loads(text)["cells"])
    return f"{HIDDEN}# `{path}`\n\n{_code(CODE[suffix], text)}"


def _cell(cell: dict[str, Any]) -> str:
    text = "".join(cell["source"])
    if cell["cell_type"] == "code":
        return _code("python", text)
    return re.sub(r"\$(.+?)\$", r"$`\1`$", text)


def _code(language: str, text: str) -> str:
    return f"~~~~~~{language}\n{text}\n~~~~~~\n"


def _targets(page: File) -> Iterator[str]:
    """What a page links to, as paths from the root of the repository."""
    here = _place(page.src_uri)
    if here is not None:
        text = FENCE.sub("", page.content_string)
        found = (_resolved(here, link) for link in LINK.findall(text))
        yield from (target for target in found if target is not None)


def _resolved(here: str, link: str) -> str | None:
    """A link's target from the root of the repository; None for one that leads elsewhere."""
    if re.match(r"[a-z]+:", link):
        return None
    target = os.path.normpath(os.path.join(os.path.dirname(here), link))
    return f"{target}/README.md" if (ROOT / target / "README.md").is_file() else target


def _place(uri: str) -> str | None:
    """Where a page's text lies in the repository; None for a page of code, which has no links."""
    if uri == "index.md":
        return "README.md"
    if not uri.startswith(OUTSIDE):
        return f"docs/{uri}"
    path = uri.removeprefix(OUTSIDE)
    return path if (ROOT / path).is_file() else None


def _uri(path: str) -> str:
    """Where the site has a file of the repository."""
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    code = PurePosixPath(path).suffix in {*CODE, ".ipynb"}
    return f"{OUTSIDE}{path}.md" if code else f"{OUTSIDE}{path}"


def _outside_fences(text: str, change: Any) -> str:
    """The text with ``change`` made everywhere but in blocks of code."""
    parts, at = [], 0
    for fence in FENCE.finditer(text):
        parts += [change(text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, change(text[at:])])
