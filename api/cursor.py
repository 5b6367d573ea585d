"""Cursors of lists: the id of the last one of a page, which sorts by time of creation."""

import re

from wire.errors import InvalidCursor

FORM = re.compile(r"[0-9a-f]{32}")


def check_list_cursor(text: str, kind: str = "job") -> str:
    """Return what a client sent, an id of this kind.

    Raises:
        InvalidCursor: it cannot be an id this server gave out.
    """
    found, _, rest = text.partition("_")
    if found != kind or FORM.fullmatch(rest) is None:
        raise InvalidCursor("after: the `last_id` of an earlier page is expected", param="after")
    return text
