"""API keys for tests, whatever way keys are kept."""

from typing import Any

from jobs.accounts import KeyFile
from jobs.settings import Settings


def make_key(settings: Settings, account: str = "acme", **fields: Any) -> str:
    """Make a key; `fields` are those of its record: role, models, limits, account_limits, ..."""
    return KeyFile(settings.api.keys_file).create(account, **fields)[0]
