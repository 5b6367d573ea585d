"""MkDocs hooks: generate the pages that are not in `docs/` when the site is built.

`README.md` becomes the front page; the other pages of the root, an index of the decisions and the
API reference are added. Invariant: nothing is written to `docs/`, and a link to a file that is not
on the site fails the strict build.
"""

# ruff: noqa: INP001 - MkDocs imports it by its path

from __future__ import annotations

import json
import logging
import re
from itertools import pairwise
from pathlib import Path

import api_reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
OPENAPI = ROOT / "tests" / "contract" / "openapi.json"

#: Files of the root, and the page that each becomes.
FROM_ROOT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "vulnerabilities.md",
    "CHANGELOG.md": "changelog.md",
}
LICENSE = "# Licence\n\n```text\n{text}\n```\n"
#: Links of those files whose targets have another place on the site.
MOVED = {**FROM_ROOT, "docs/decisions/": "decisions/index.md", "LICENSE": "license.md"}
LINK = re.compile(r"\]\(([^)#:]+)(#[^)]*)?\)")
CODE = re.compile(r"`[^`\n]+`")
#: A table or list; without a blank line above, Python's Markdown makes it part of the paragraph.
BLOCK = re.compile(r"\| |- |\d+\. ")
#: A line that may precede it: an empty line, a heading, or a line of the same block.
ABOVE = re.compile(r"\s*$|#+ |\||\s*- |\d+\. |\s+\S")

log = logging.getLogger("mkdocs.hooks.penstock")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the generated pages to the navigation."""
    reference = [f"reference/{name}" for name in api_reference.pages(_document())]
    decisions = [f"decisions/{path.name}" for path in _decisions()]
    for section in config.nav or []:
        if "API reference" in section:
            section["API reference"] = reference
        if "Decisions" in section:
            section["Decisions"] = ["decisions/index.md", *decisions]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, page in FROM_ROOT.items():
        text = LINK.sub(_moved, (ROOT / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    for name, text in api_reference.pages(_document()).items():
        files.append(File.generated(config, f"reference/{name}", content=text))
    licence = LICENSE.format(text=(ROOT / "LICENSE").read_text(encoding="utf-8").strip("\n"))
    files.append(File.generated(config, "license.md", content=licence))
    files.append(File.generated(config, "decisions/index.md", content=_decisions_index()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Return a page written for GitHub as Python's Markdown needs it.

    Warn about a table or list without a blank line above it. Remove the escapes of bars in code in
    tables.
    """
    lines, fenced = markdown.split("\n"), False
    for number, (above, line) in enumerate(pairwise(["", *lines]), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and BLOCK.match(line) and not ABOVE.match(above):
            log.warning("%s:%d: needs a blank line above it", page.file.src_uri, number)
    return "\n".join(_row(line) if line.startswith("|") else line for line in lines)


def _row(line: str) -> str:
    return CODE.sub(lambda code: code[0].replace("\\|", "|"), line)


def _moved(link: re.Match[str]) -> str:
    path, anchor = link[1], link[2] or ""
    return f"]({MOVED.get(path) or path.removeprefix('docs/')}{anchor})"


def _document() -> api_reference.Json:
    document: api_reference.Json = json.loads(OPENAPI.read_text(encoding="utf-8"))
    return document


def _decisions() -> list[Path]:
    return sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def _decisions_index() -> str:
    lines = ["# Decisions", "", "Each decision with its context, its reasons and its cost.", ""]
    for path in _decisions():
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines) + "\n"
