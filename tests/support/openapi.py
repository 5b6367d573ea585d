"""The reviewed OpenAPI document: `python -m tests.support.openapi` writes it."""

import json
from pathlib import Path
from typing import Any

from api.app import create_app
from core.settings.tree import Settings

SNAPSHOT = Path(__file__).parents[1] / "contract" / "openapi.json"


def document() -> dict[str, Any]:
    """Return the document of an application with default settings."""
    settings = Settings(_env_file=None)
    made: dict[str, Any] = json.loads(json.dumps(create_app(settings).openapi()))
    return made


def main() -> None:
    """Write the snapshot."""
    text = json.dumps(document(), indent=1, sort_keys=True, ensure_ascii=False)
    SNAPSHOT.write_text(text + "\n")


if __name__ == "__main__":
    main()
