"""The documentation site: complete, no broken links, nothing loaded from other hosts."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.manifests import ROOT

MKDOCS = Path(sys.executable).parent / "mkdocs"
DOCUMENT = json.loads((ROOT / "tests/contract/openapi.json").read_text())
#: Tags whose targets a browser fetches without a click.
FETCHED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
    "link": "href",
}
OUTSIDE = re.compile(r"^(https?:)?//")
#: In style sheets: fonts, pictures and further sheets.
STYLE = re.compile(r"(?:url\(\s*|@import\s+)[\"']?((?:https?:)?//[^\"')\s]+)")


class Fetched(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.add(values.get("id") or "")
        if tag in FETCHED and values.get(FETCHED[tag]):
            self.addresses.append(str(values[FETCHED[tag]]))


def parsed(page: Path) -> Fetched:
    parser = Fetched()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def build(tree: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a tree as `make docs` does."""
    return subprocess.run(
        [str(MKDOCS), "build", "--strict", "--site-dir", str(site)],
        cwd=tree,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once."""
    made = tmp_path_factory.mktemp("site")
    done = build(ROOT, made)
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def test_every_page_of_docs_and_every_policy_is_on_it(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    for page in pages:
        assert (site / page.with_suffix(".html")).exists(), page
    for name in (
        "index",
        "contributing",
        "security",
        "vulnerabilities",
        "changelog",
        "license",
        "decisions/index",
    ):
        assert (site / f"{name}.html").exists(), name


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        addresses = parsed(page).addresses
        assert addresses, page
        assert not [one for one in addresses if OUTSIDE.match(one)], page
        assert not STYLE.findall(page.read_text()), page
        assert 'class="mermaid"' not in page.read_text(), "the theme would load Mermaid"
    for sheet in site.rglob("*.css"):
        assert not STYLE.findall(sheet.read_text()), sheet


def test_every_operation_and_every_schema_is_in_the_reference(site: Path) -> None:
    pages = [page.read_text() for page in (site / "reference").glob("*.html")]
    shown = set(re.findall(r'<h2 id="[^"]+"><code>([A-Z]+ /[^<]*)</code>', "".join(pages)))
    assert shown == {
        f"{method.upper()} {path}"
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
    }
    ids = parsed(site / "reference/schemas.html").ids
    for name in DOCUMENT["components"]["schemas"]:
        assert re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") in ids, name


def test_an_operation_shows_parameters_body_answers_and_errors(site: Path) -> None:
    text = re.sub(r"<[^>]+>", " ", (site / "reference/jobs.html").read_text())
    submit = text.partition("POST /v1/jobs ")[2].partition("GET /v1/jobs/{job_id}")[0]
    for part in ("Body", "JobRequest", "Answers", "202", "Errors", "429", "Retry-After"):
        assert part in text, part
    assert "Submit a job" in text
    assert submit


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the site is made of."""
    copy = tmp_path / "tree"
    for name in ("docs", "scripts"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests/contract").mkdir(parents=True)
    for name in ("mkdocs.yml", "LICENSE", "tests/contract/openapi.json", *_policies()):
        shutil.copy(ROOT / name, copy / name)
    return copy


def _policies() -> list[str]:
    return ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("\n[a](nowhere.md)\n", "nowhere.md"),
        ("\n[a](api.md#no-such-title)\n", "no-such-title"),
        ("\n![a](images/none.png)\n", "images/none.png"),
        ("\nSome text\n- an item\n", "needs a blank line above it"),
        ("\nSome text\n| a | b |\n|---|---|\n", "needs a blank line above it"),
    ],
)
def test_a_mistake_on_a_page_fails_the_build(
    tree: Path, tmp_path: Path, broken: str, said: str
) -> None:
    page = tree / "docs/limits.md"
    page.write_text(page.read_text() + broken)
    done = build(tree, tmp_path / "site")
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_a_page_that_is_not_in_the_navigation_fails_the_build(tree: Path, tmp_path: Path) -> None:
    (tree / "docs/forgotten.md").write_text("# Forgotten\n")
    done = build(tree, tmp_path / "site")
    assert done.returncode != 0
    assert "forgotten.md" in done.stdout + done.stderr
