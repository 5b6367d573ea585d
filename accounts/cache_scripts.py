"""The Lua scripts of the caller cache and of sign-ins, and their arguments."""

from pathlib import Path
from typing import NamedTuple

from redis.asyncio import Redis

from core.redis.script_sources import Script, read_scripts
from core.redis.scripts import Scripts


class ReplaceCallersArgs(NamedTuple):
    """`replace_callers.lua`; (field, record) pairs follow."""

    generation: str


class MarkCompleteArgs(NamedTuple):
    """`mark_complete.lua`."""

    token: str


SCRIPTS = {
    "replace_callers": Script(ReplaceCallersArgs),
    "mark_complete": Script(MarkCompleteArgs),
    "count_sign_in": Script(),
}


def open_scripts(redis: Redis, prefix: str) -> Scripts:
    """Return the scripts; connections open on first use and `close` closes them."""
    return Scripts(redis, prefix, read_scripts(Path(__file__).parent / "scripts", SCRIPTS))
