"""Cursors of job lists: the id of the last job of a page, which sorts by time of creation."""

import re
import time

from api.errors import InvalidCursor

FORM = re.compile(r"job_([0-9a-f]{12})[0-9a-f]{20}")
SKEW_MILLISECONDS = 60_000


def check_list_cursor(text: str) -> str:
    """Return what a client sent.

    Raises:
        InvalidCursor: it cannot be an id this server gave out.
    """
    found = FORM.fullmatch(text)
    if found is None:
        raise InvalidCursor("after: the `last_id` of an earlier page is expected", param="after")
    if int(found[1], 16) > time.time() * 1000 + SKEW_MILLISECONDS:
        raise InvalidCursor("after: this cursor lies in the future", param="after")
    return text
