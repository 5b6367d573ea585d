"""Server-sent events on the wire: headers of the response, framing of one event, keep-alives.

Invariants: a reader that splits at any of Unicode's line ends finds the same lines as one that
follows the standard. An empty line stands only at the end of a block that has data, because many
readers take any other for an event without data.
"""

import re

from core.json_text import on_one_line

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
LINE_END = re.compile(rb"\r\n|\r|\n")

#: Keeps an idle connection open: a comment that becomes part of the next block.
PING = b": ping\n"


def frame(data: bytes, *, event: str = "", seq: int | None = None) -> bytes:
    """Encode one event.

    Args:
        data: JSON in UTF-8, or another text in ASCII. Each of its lines becomes one `data:` line.
        event: The event's type; left out of the frame when empty.
        seq: The event's id, which a client sends back as `Last-Event-ID`; left out when None.

    Returns:
        The frame with the empty line that ends it.
    """
    head = b"" if seq is None else b"id: %d\n" % seq
    if event:
        head += b"event: %b\n" % event.encode()
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(LINE_END.split(data))
    return b"%bdata: %b\n\n" % (head, on_one_line(data))
