"""The event stream of OpenAI's Responses API, built from a job's log.

Invariant: the events and their `sequence_number`s are a pure function of the log, independent of
how it is split into batches. So a client that resumes after a number misses and repeats nothing.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from jobs.events import Event, EventType
from jobs.job import Job
from jobs.status import Status
from wire.error_bodies import Problem, from_error
from wire.errors import Restarted
from wire.sse import PING, frame
from wire.views.cost import CostLookup, no_cost
from wire.views.response import add_end, error_object, item_status, response_head, usage_object
from wire.views.response_items import OutputItems

ENDS = {"completed": "response.completed", "incomplete": "response.incomplete"}


class ResponseEvents:
    """Streams one response; events up to and including number `after` are skipped."""

    ping = PING
    gets_grace = True

    def __init__(self, job: Job, find_cost: CostLookup = no_cost, after: int = -1) -> None:
        self.ended = False
        self._job = job
        self._find_cost = find_cost
        self._after = after
        self._number = 0
        self._started = False
        self._begin()
        background = (job.spec.response or {}).get("background", False)
        first = "queued" if background else "in_progress"
        out = [
            self._encode({"type": "response.created", "response": response_head(job, first, [])})
        ]
        if background:
            out.append(
                self._encode({"type": "response.queued", "response": response_head(job, first, [])})
            )
        self.preamble = b"".join(out)

    def _begin(self) -> None:
        self._items = OutputItems(self._job.id.removeprefix("job_"))
        self._reason: str | None = None

    def show(self, events: Sequence[Event]) -> bytes:
        """Encode a batch of events."""
        out: list[bytes] = []
        for event in events:
            if event.type == EventType.STARTED:
                out.append(self._start())
            elif event.type == EventType.DELTA:
                out += self._delta(event.decode())
            elif event.type == EventType.RESTARTED:
                out.append(self._restart())
            elif event.type == EventType.FINISHED:
                out += self._finish(event.decode())
            if self.ended:
                break
        return b"".join(out)

    def fail(self, problem: Problem) -> bytes:
        """Encode an error that ends the stream; the client may resume."""
        return frame(orjson.dumps(_error(problem, self._number)), event=EventType.ERROR)

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        shown = response_head(self._job, "in_progress", [])
        return self._encode({"type": "response.in_progress", "response": shown})

    def _delta(self, data: dict[str, Any]) -> list[bytes]:
        delta = data.get("delta")
        if delta is None:
            delta = {"content": data["text"]}
        self._reason = data.get("finish_reason") or self._reason
        logprobs = (data.get("logprobs") or {}).get("content") or ()
        return [self._encode(event) for event in self._items.add(delta, logprobs)]

    def _restart(self) -> bytes:
        """Tell the client to discard the output so far; resuming replays all of it."""
        if not self._items.items:
            return b""
        self._begin()
        restarted = Restarted("the job was restarted: discard the output so far and resume")
        error = self._encode(_error(from_error(restarted), self._number))
        self.ended = bool(error)
        return error

    def _finish(self, data: dict[str, Any]) -> list[bytes]:
        self.ended = True
        job, status = self._job, Status(data["status"])
        closing = self._items.close(item_status(self._reason))
        items = self._items.items
        shown = response_head(job, status, items)
        add_end(shown, status, self._reason, data["finished_at"])
        shown["error"] = error_object(status, data["error"], job.id)
        shown["usage"] = usage_object(data["usage"], items, self._find_cost(data).cost)
        kind = ENDS.get(shown["status"], "response.failed")
        return [self._encode(event) for event in (*closing, {"type": kind, "response": shown})]

    def _encode(self, event: dict[str, Any]) -> bytes:
        """Encode an event with its number; nothing if the client has it already."""
        number, self._number = self._number, self._number + 1
        if number <= self._after:
            return b""
        data = orjson.dumps({**event, "sequence_number": number})
        return frame(data, event=event["type"], seq=number)


def _error(problem: Problem, number: int) -> dict[str, Any]:
    shown = problem.as_openai()["error"]
    fields = {name: shown[name] for name in ("code", "message", "param")}
    return {"type": "error", "sequence_number": number, **fields}
