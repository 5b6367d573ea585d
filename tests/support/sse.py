"""Parses event streams as an EventSource does."""

from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True)
class SseEvent:
    """One event as an EventSource would dispatch it."""

    id: str
    event: str
    data: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.data)


def parse_sse(text: str) -> list[SseEvent]:
    """Parse a stream by the standard's rules: lines end at CR, LF and CRLF only."""
    events: list[SseEvent] = []
    last_id, event = "", ""
    data: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append(SseEvent(last_id, event, "\n".join(data)))
            event, data = "", []
        elif name == "id":
            last_id = value
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
    return events
