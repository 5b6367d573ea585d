"""Cleans file names, which come from clients and are shown to other users.

Invariant: a cleaned name has no folder and no control or direction-changing character, and fits
the column. Names never become paths: objects are named by ids.
"""

import unicodedata

MAX_CHARACTERS = 255
MAX_SUFFIX_CHARACTERS = 16
#: Unicode categories: control, format (may change the text's direction), private use, surrogate,
#: unassigned, line and paragraph separators.
INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})


def clean_name(raw: str) -> str:
    """Return a name that is safe to show and to save; empty if no visible character is left."""
    last = raw.replace("\\", "/").rpartition("/")[2]
    visible = "".join(char for char in last if unicodedata.category(char) not in INVISIBLE)
    name = unicodedata.normalize("NFC", visible).strip().strip(".").strip()
    if len(name) <= MAX_CHARACTERS:
        return name
    stem, dot, suffix = name.rpartition(".")
    if dot and len(suffix) <= MAX_SUFFIX_CHARACTERS:
        return f"{stem[: MAX_CHARACTERS - len(suffix) - 1]}.{suffix}"
    return name[:MAX_CHARACTERS]
