"""Which folder imports which: `python -m tests.support.import_graph` draws docs/images/imports.svg.

A folder is a package or subpackage. Invariant: the graph is read from the source, so a picture
that a test compares with it cannot go stale.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "imports.svg"
PACKAGES = (
    "accounts", "api", "batches", "bench", "billing", "cli", "core", "files", "intake", "jobs",
    "migrations", "penstock", "planning", "webhooks", "wire", "workers",
)  # fmt: skip

Graph = Mapping[str, frozenset[str]]

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN = 132, 34, 18, 52, 20
ARROW_TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
    'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#78909c"/></marker></defs>'
)


def modules() -> dict[str, Path]:
    """Return every module of the application by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def folder_graph() -> Graph:
    """Return for each folder the folders that its modules import."""
    known = modules()
    folders = {name: _folder(path) for name, path in known.items()}
    graph: dict[str, set[str]] = defaultdict(set)
    for name, path in known.items():
        here = folders[name]
        graph[here] |= {folders[other] for other in _imports(path, known)} - {here}
    return {folder: frozenset(imported) for folder, imported in graph.items()}


def package_graph(graph: Graph) -> Graph:
    """Return the same between the packages of the top level."""
    joined: dict[str, set[str]] = defaultdict(set)
    for folder, imported in graph.items():
        top = folder.partition("/")[0]
        joined[top] |= {other.partition("/")[0] for other in imported} - {top}
    return {top: frozenset(imported) for top, imported in joined.items()}


def _folder(path: Path) -> str:
    return str(path.parent.relative_to(ROOT))


def _imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Yield the application's modules that one file imports, at any level."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in known:
                    yield name
                elif node.module in known:
                    yield node.module


def ranks(graph: Graph) -> dict[str, int]:
    """Return each node's height above the lowest; an import always leads to a lower rank.

    Raises:
        graphlib.CycleError: nodes import each other in a circle.
    """
    found: dict[str, int] = {}
    for node in TopologicalSorter(graph).static_order():
        found[node] = max((found[other] + 1 for other in graph.get(node, ())), default=0)
    return found


def reduced(graph: Graph) -> Graph:
    """Leave out arrows that a longer path implies, so that few remain."""

    def reachable(node: str) -> set[str]:
        found: set[str] = set()
        for other in graph.get(node, ()):
            found |= {other} | reachable(other)
        return found

    return {
        node: frozenset(
            other
            for other in imported
            if not any(other in reachable(between) for between in imported - {other})
        )
        for node, imported in graph.items()
    }


def draw(graph: Graph) -> str:
    """Return an SVG picture: a row for each rank, arrows only downwards."""
    heights = ranks(graph)
    rows: dict[int, list[str]] = defaultdict(list)
    for node, rank in sorted(heights.items()):
        rows[rank].append(node)
    top, widest = max(rows), max(len(row) for row in rows.values())
    width = 2 * MARGIN + widest * (BOX_WIDTH + GAP_X) - GAP_X
    height = 2 * MARGIN + (top + 1) * (BOX_HEIGHT + GAP_Y) - GAP_Y
    places: dict[str, tuple[float, float]] = {}
    for rank, row in rows.items():
        left = (width - len(row) * (BOX_WIDTH + GAP_X) + GAP_X) / 2
        for index, node in enumerate(row):
            y = MARGIN + (top - rank) * (BOX_HEIGHT + GAP_Y)
            places[node] = (left + index * (BOX_WIDTH + GAP_X), y)
    arrows = [
        _arrow(places[node], places[other])
        for node, imported in sorted(reduced(graph).items())
        for other in sorted(imported)
    ]
    boxes = [_box(node, *place) for node, place in sorted(places.items())]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        'font-family="sans-serif" font-size="14">'
        f'{ARROW_TIP}<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>'
    )
    return "\n".join([head, *arrows, *boxes, "</svg>\n"])


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    x1, y1 = start[0] + BOX_WIDTH / 2, start[1] + BOX_HEIGHT
    x2, y2 = end[0] + BOX_WIDTH / 2, end[1] - 2
    bend = (y2 - y1) / 2
    return (
        f'<path d="M{x1:g} {y1:g} C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}" '
        'fill="none" stroke="#90a4ae" stroke-width="1.3" marker-end="url(#tip)"/>'
    )


def _box(node: str, x: float, y: float) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" '
        'fill="#e3f2fd" stroke="#1976d2"/>'
        f'<text x="{x + BOX_WIDTH / 2:g}" y="{y + BOX_HEIGHT / 2 + 5:g}" text-anchor="middle" '
        f'fill="#0d2b45">{escape(node)}/</text>'
    )


def main() -> None:
    """Write the picture of the packages."""
    PICTURE.write_text(draw(package_graph(folder_graph())))


if __name__ == "__main__":
    main()
