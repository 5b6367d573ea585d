"""The page on security names every test of an attack."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_has_every_test_of_an_attack() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    for path in (ROOT / "tests" / "abuse").glob("test_*.py"):
        assert f"| `tests/abuse/{path.name}`" in page or f", `tests/abuse/{path.name}`" in page
