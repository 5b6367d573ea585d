"""JSON that stays on one line for every reader, also for those that split at Unicode's line ends.

U+0085, U+2028 and U+2029 are ordinary characters in JSON and in event streams, but Python's
`str.splitlines` and readers that use it break a line there. Invariant: the escaped text is the same
JSON value.
"""

#: What JSON may contain unescaped and some readers take for the end of a line, in UTF-8.
LINE_ENDS = {b"\xc2\x85": b"\\u0085", b"\xe2\x80\xa8": b"\\u2028", b"\xe2\x80\xa9": b"\\u2029"}


def on_one_line(data: bytes) -> bytes:
    """Escape the characters of JSON that some readers take for the end of a line.

    Args:
        data: JSON in UTF-8. These characters can only stand inside its strings.
    """
    if b"\xe2\x80" in data or b"\xc2\x85" in data:
        for character, escaped in LINE_ENDS.items():
            data = data.replace(character, escaped)
    return data
