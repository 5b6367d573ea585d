"""The text of the Lua scripts as Redis gets it.

Invariant: a script stands behind only what it uses of `scripts/lib.lua`. Lua makes its functions
anew in every run, and all of them would be a tenth of a submit.
"""

import re
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "jobs" / "store" / "scripts"
LIBRARY = "lib"

#: At `maxmemory` what frees memory must go on, and what was accepted must come to its end; only
#: `submit` brings in more.
ALLOW_OOM = "#!lua flags=allow-oom\n"
#: These go on with a full disk and on a replica, too.
ONLY_READ = "#!lua flags=no-writes,allow-oom\n"
FLAGS = {"submit": ""} | dict.fromkeys(
    ("finished", "ended", "observe", "position", "mode"), ONLY_READ
)


def sources(ticket: str) -> dict[str, str]:
    """Return every script by name; `ticket` is the pattern of a Celery message."""
    library = f"{_ticket_function(ticket)}\n{(SCRIPTS / f'{LIBRARY}.lua').read_text()}\n"
    return {
        path.stem: FLAGS.get(path.stem, ALLOW_OOM) + _completed(path.read_text(), library)
        for path in SCRIPTS.glob("*.lua")
        if path.stem != LIBRARY
    }


def _completed(script: str, library: str) -> str:
    """Put before a script what it uses: definitions begin a line and stand before their uses."""
    for definition in reversed(re.split(r"^(?=local )", library, flags=re.MULTILINE)):
        name = re.match(r"local (?:function )?(\w+)", definition)
        if name is None or re.search(rf"\b{name[1]}\b", script):
            script = definition + script
    return script


def _ticket_function(template: str) -> str:
    """Return Lua that fills in a ticket: joined pieces, as patterns cost half a submit."""
    names = {"@TAG@": "tag", "@QUEUE@": "queue"}
    pieces = re.split("(@TAG@|@QUEUE@)", template)
    joined = " .. ".join(names.get(piece) or f"[==[{piece}]==]" for piece in pieces)
    return f"local function ticket(tag, queue) return {joined} end"
