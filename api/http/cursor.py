"""Cursors of lists: the id of a page's last item; ids sort by time of creation."""

import re

from wire.errors import InvalidCursor

ID_SUFFIX = re.compile(r"[0-9a-f]{32}")


def check_list_cursor(text: str, kind: str = "job") -> str:
    """Validate the `after` parameter of a list.

    Args:
        text: What the client sent.
        kind: Prefix of the ids of the list.

    Returns:
        The text, which is an id.

    Raises:
        InvalidCursor: The text is not an id of this kind.
    """
    found, _, rest = text.partition("_")
    if found != kind or ID_SUFFIX.fullmatch(rest) is None:
        raise InvalidCursor("after: expected the `last_id` of an earlier page", param="after")
    return text
