"""`python3 scripts/redis_users.py URL`: prints a Kubernetes secret with users of Redis.

Needs only Python. URL is that of the server as the pods reach it, without a user, such as
redis://redis:6379/0. Invariant: the rules are those of docker-compose.yml, with new passwords.
"""

# ruff: noqa: INP001, T201 - it prints to the terminal

from __future__ import annotations

import json
import re
import secrets
import sys
from pathlib import Path
from urllib.parse import urlsplit

COMPOSE = Path(__file__).resolve().parents[1] / "docker-compose.yml"
NAME = "penstock-redis-users"
RULE = re.compile(r"^ +user (\w+) on >\$\{\w+\} (.+)$", re.MULTILINE)


def make_secret(url: str) -> dict[str, object]:
    """Return the secret: the URL of each user by its name, and `users.conf` for Redis.

    Args:
        url: The server's URL without a user.
    """
    parts = urlsplit(url)
    data: dict[str, str] = {}
    lines: list[str] = []
    for user, rights in RULE.findall(COMPOSE.read_text()):
        # Letters and digits only, because URLs contain them.
        password = secrets.token_hex(24)
        data[user] = f"{parts.scheme}://{user}:{password}@{parts.netloc}{parts.path}"
        lines.append(f"user {user} on >{password} {rights}\n")
    data["users.conf"] = "".join(lines)
    head = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "type": "Opaque"}
    return {**head, "stringData": data}


def main() -> int:
    """Print the secret; return the exit code."""
    url = sys.argv[1] if len(sys.argv) == 2 else ""
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or "@" in parts.netloc:
        print("usage: python3 scripts/redis_users.py redis://HOST:PORT/0", file=sys.stderr)
        return 2
    print(json.dumps(make_secret(url), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
