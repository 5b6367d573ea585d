"""`python3 scripts/compose_env.py`: writes the secrets that docker-compose.yml needs to `.env`.

Needs only Python. Invariant: values that exist are kept, because with a new password the old data
could not be read; only the owner can read the file.
"""

# ruff: noqa: INP001, T201 - it prints to the terminal

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

#: A password for the operator of Redis, and one for each kind of process.
REDIS = ("API", "CONTROL", "DELIVERER", "FEEDER", "LEDGER", "WORKER")
NAMES = (
    "REDIS_PASSWORD",
    *(f"REDIS_{kind}_PASSWORD" for kind in REDIS),
    "POSTGRES_PASSWORD",
    "JWT_SECRET",
)


def missing(text: str) -> list[str]:
    """Return the names of secrets that have no value yet."""
    lines = dict(line.partition("=")[::2] for line in text.splitlines())
    return [name for name in NAMES if not lines.get(name, "").strip()]


def main() -> int:
    """Add the missing secrets; return the exit code."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else ".env")
    text = path.read_text() if path.exists() else ""
    names = missing(text)
    if not names:
        print(f"{path} already has all secrets.")
        return 0
    if text and not text.endswith("\n"):
        text += "\n"
    # Letters and digits only, because URLs contain them.
    text += "".join(f"{name}={secrets.token_hex(24)}\n" for name in names)
    aside = path.with_name(f"{path.name}.tmp")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    aside.replace(path)
    print(f"{path} now has {', '.join(names)}. Next: docker compose up --build --wait")
    return 0


if __name__ == "__main__":
    sys.exit(main())
