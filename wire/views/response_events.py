"""A response's stream: the events of OpenAI's Responses API, told from a job's log.

Invariant: what is told, and every `sequence_number`, is a pure function of the log, however it is
cut into batches; so a client that reads again after a number misses and repeats nothing.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from jobs.events import Event, EventType
from jobs.job import Job
from jobs.status import Status
from wire.errors import Restarted
from wire.problems import Problem, from_error
from wire.sse import frame
from wire.views.cost import Billing, unbilled
from wire.views.openai import PING
from wire.views.response import end, ending_of, error_object, head, usage_object
from wire.views.response_items import Items

ENDS = {"completed": "response.completed", "incomplete": "response.incomplete"}


class ResponseEvents:
    """The stream of one response; what comes before `after` is passed over, `after` included."""

    ping = PING
    patient = True

    def __init__(self, job: Job, bill: Billing = unbilled, after: int = -1) -> None:
        self.ended = False
        self._job = job
        self._bill = bill
        self._after = after
        self._number = 0
        self._started = False
        self._begin()
        background = (job.spec.response or {}).get("background", False)
        first = "queued" if background else "in_progress"
        out = [self._tell({"type": "response.created", "response": head(job, first, [])})]
        if background:
            out.append(self._tell({"type": "response.queued", "response": head(job, first, [])}))
        self.opening = b"".join(out)

    def _begin(self) -> None:
        self._items = Items(self._job.id.removeprefix("job_"))
        self._reason: str | None = None

    def show(self, events: Sequence[Event]) -> bytes:
        """Return a batch of events in wire form."""
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
        """Return what tells the client that the stream ends here; it may resume."""
        return frame(orjson.dumps(_error(problem, self._number)), event="error")

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        shown = head(self._job, "in_progress", [])
        return self._tell({"type": "response.in_progress", "response": shown})

    def _delta(self, data: dict[str, Any]) -> list[bytes]:
        delta = data.get("delta")
        if delta is None:
            delta = {"content": data["text"]}
        self._reason = data.get("finish_reason") or self._reason
        logprobs = (data.get("logprobs") or {}).get("content") or ()
        return [self._tell(event) for event in self._items.add(delta, logprobs)]

    def _restart(self) -> bytes:
        """Say that what was told does not count; who reads on after this number is told anew."""
        if not self._items.items:
            return b""
        self._begin()
        restarted = Restarted("the answer began anew: discard what was received and read on")
        told = self._tell(_error(from_error(restarted), self._number))
        self.ended = bool(told)
        return told

    def _finish(self, data: dict[str, Any]) -> list[bytes]:
        self.ended = True
        job, status = self._job, Status(data["status"])
        closing = self._items.close(ending_of(self._reason))
        items = self._items.items
        shown = head(job, status, items)
        end(shown, status, self._reason, data["finished_at"])
        shown["error"] = error_object(status, data["error"], job.id)
        shown["usage"] = usage_object(data["usage"], items, self._bill(data).cost)
        kind = ENDS.get(shown["status"], "response.failed")
        return [self._tell(event) for event in (*closing, {"type": kind, "response": shown})]

    def _tell(self, event: dict[str, Any]) -> bytes:
        """Return an event with its number, nothing where the client has it already."""
        number, self._number = self._number, self._number + 1
        if number <= self._after:
            return b""
        data = orjson.dumps({**event, "sequence_number": number})
        return frame(data, event=event["type"], seq=number)


def _error(problem: Problem, number: int) -> dict[str, Any]:
    shown = problem.as_openai()["error"]
    fields = {name: shown[name] for name in ("code", "message", "param")}
    return {"type": "error", "sequence_number": number, **fields}
