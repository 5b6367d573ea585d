"""docs/limits.md has a row with the default of every limit on media and complexity."""

import re
from pathlib import Path

from core.settings.complexity import ComplexitySettings, MediaSettings

PAGE = Path(__file__).resolve().parents[3] / "docs" / "limits.md"
ROW = re.compile(r"^\| [^|]+ \| `((?:complexity|media)\.\w+)` \((\d+)\) \|", re.MULTILINE)


def test_every_limit_has_a_row_with_its_default() -> None:
    given = {"complexity": ComplexitySettings(), "media": MediaSettings()}
    settings = [
        (f"{group}.{name}", str(value)) for group, one in given.items() for name, value in one
    ]
    assert ROW.findall(PAGE.read_text()) == settings
