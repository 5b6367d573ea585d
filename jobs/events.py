"""The events of a job: their names, and the numbered entries of its log.

Invariant: `seq` rises by exactly one per event and is the SSE `id`; every generated token id
appears in exactly one `delta` after the last `restarted`.
"""

from enum import StrEnum
from typing import Any, NamedTuple, NotRequired, TypedDict

import orjson


class EventType(StrEnum):
    """Every event name of ours, in the log and on SSE streams.

    The log of a job has STARTED on each attempt, then DELTAs, RESTARTED before an attempt repeats
    text that was sent, and one FINISHED. Streams add three events that no log has: DONE and ERROR
    end a stream, with the job's final state or with a problem; REPLAY_TRUNCATED begins a stream
    whose first events are no longer kept. OpenAI's event names are in `wire.views`.
    """

    STARTED = "started"
    DELTA = "delta"
    RESTARTED = "restarted"
    FINISHED = "finished"
    DONE = "done"
    ERROR = "error"
    REPLAY_TRUNCATED = "replay_truncated"


class Event(NamedTuple):
    """One entry of the log; `data` is its JSON object, not decoded until a view needs it."""

    seq: int
    type: str
    data: bytes

    def decode(self) -> dict[str, Any]:
        """Return the JSON object."""
        decoded: dict[str, Any] = orjson.loads(self.data)
        return decoded


class DeltaData(TypedDict):
    """Data of a `delta`: what one step (or a few coalesced ones) added to one choice.

    `delta` replaces `text` for chat clients where it says more (tool calls, reasoning). `weights`
    is on the first delta of an attempt: the digest of the weights that generate from here on.
    """

    index: int
    token_ids: list[int]
    text: str
    delta: NotRequired[dict[str, Any]]
    logprobs: NotRequired[dict[str, Any]]
    finish_reason: NotRequired[str]
    stop_reason: NotRequired[str | int]
    weights: NotRequired[str]


class Usage(TypedDict):
    """Tokens counted at the engine, and the vectors that an embedding request has delivered."""

    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    vectors: NotRequired[int]


def from_stream(entry_id: bytes, fields: dict[bytes, bytes]) -> Event:
    """Read an event from a Redis stream entry."""
    return Event(int(entry_id.partition(b"-")[0]), fields[b"t"].decode(), fields[b"d"])


def from_frame(frame: bytes) -> list[tuple[str, Event]]:
    """Read a published frame: `[[job id, seq, type, data], ...]`."""
    return [
        (job_id, Event(seq, kind, orjson.dumps(data)))
        for job_id, seq, kind, data in orjson.loads(frame)
    ]
