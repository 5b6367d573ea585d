"""Makes file names harmless: they come from clients and are shown to others.

Invariant: what is stored has no folder, no control or direction-changing character, and fits the
column. Names never become paths: objects are named by ids.
"""

import unicodedata

LONGEST = 255
#: Control, format (which change the direction of text), private, surrogate, unassigned.
UNSEEN = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})


def clean_name(raw: str) -> str:
    """Return a name that can be shown and saved; empty when nothing is left of it."""
    last = raw.replace("\\", "/").rpartition("/")[2]
    seen = "".join(char for char in last if unicodedata.category(char) not in UNSEEN)
    name = unicodedata.normalize("NFC", seen).strip().strip(".").strip()
    if len(name) <= LONGEST:
        return name
    stem, dot, suffix = name.rpartition(".")
    if dot and len(suffix) <= 16:
        return f"{stem[: LONGEST - len(suffix) - 1]}.{suffix}"
    return name[:LONGEST]
