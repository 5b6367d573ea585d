"""Server-sent events on the wire: headers of the response and framing of one event.

Framing splits data at CR, LF and CRLF only, as the standard says: other Unicode line separators
are text.
"""

import re

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
LINE_END = re.compile(rb"\r\n|\r|\n")


def frame(data: bytes, *, event: str = "", seq: int | None = None) -> bytes:
    """Encode one event.

    Args:
        data: The payload in UTF-8. Each of its lines becomes one `data:` line.
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
    return b"%bdata: %b\n\n" % (head, data)
