"""The simulation's event loop: arrivals, engine steps, starts, drains and scaling decisions.

There is one event per change of a worker's batch, O(log n) each, however many steps are between.
Invariant: every request ends once, or counts as unserved GIVE_UP_SECONDS after the last arrival.
"""

import gc
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from typing import Any

from core.settings.queue import QueueSettings
from planning.controllers import Controller
from planning.errors import TraceInvalid
from planning.fleet import Fleet
from planning.outcome import Moment, Sample, StudyOutcome
from planning.profile import EngineProfile
from planning.ready_set import ReadySet
from planning.trace import Trace
from planning.worker_model import EngineWork, Worker

GIVE_UP_SECONDS = 86_400.0
SAMPLES = 240
NEVER = -1.0


@dataclass(frozen=True, slots=True)
class SimulationBounds:
    """A run stops early once more than `misses` requests were later than `seconds`."""

    seconds: float = inf
    misses: int = 0
    on: Moment = "claim"


@dataclass(slots=True)
class _Record:
    """Times and progress of each request."""

    starts: "array[float]"
    firsts: "array[float]"
    ends: "array[float]"
    made: dict[int, int] = field(default_factory=dict)  # tokens before a drain
    virtual: dict[int, float] = field(default_factory=dict)


class Simulation:
    """One run of a trace against a controller."""

    def __init__(
        self,
        trace: Trace,
        profile: EngineProfile,
        controller: Controller,
        queue: QueueSettings | None = None,
        bounds: SimulationBounds | None = None,
    ) -> None:
        check_fits(trace, profile)
        self._trace = trace
        self._profile = profile
        self._controller = controller
        self._bounds = bounds or SimulationBounds()
        self._on_claim = self._bounds.on == "claim"
        queue = queue or QueueSettings()
        self._ready = ReadySet(queue)
        self._together = queue.max_wait_seconds
        self._fleet = Fleet(profile)
        count = len(trace)
        blank = array("d", [NEVER]) * count
        self._record = _Record(blank[:], blank[:], blank[:])
        self._events: list[tuple[float, int, Callable[[float, Any], None], Any]] = []
        self._sequence = 0
        self._running = 0
        self._left = count
        self._misses = 0
        self._handed = 0
        self._samples: list[Sample] = []
        self._sizes: list[tuple[float, int]] = []

    def run(self) -> StudyOutcome:
        """Simulate the trace and return the outcome."""
        # The run makes millions of small tuples without cycles, which would slow the collector.
        collecting = gc.isenabled()
        gc.disable()
        try:
            now = self._play()
        finally:
            if collecting:
                gc.enable()
        end = max(now, self._trace.seconds)
        return StudyOutcome(
            trace=self._trace,
            profile=self._profile,
            starts=self._record.starts,
            firsts=self._record.firsts,
            ends=self._record.ends,
            seconds=end,
            paid_seconds=self._fleet.paid_seconds(end),
            busy_seconds=self._fleet.busy_seconds(),
            worker_starts=self._fleet.starts,
            handed_over=self._handed,
            sizes=self._sizes,
            samples=self._samples,
            complete=not self._too_many_misses,
        )

    def _play(self) -> float:
        self._begin()
        arrivals, events = self._trace.arrivals, self._events
        count, arrived, now = len(arrivals), 0, 0.0
        give_up = self._trace.seconds + GIVE_UP_SECONDS
        while self._left and now <= give_up and not self._too_many_misses:
            if arrived < count and arrivals[arrived] <= events[0][0]:
                now = arrivals[arrived]
                self._arrive(now, arrived)
                arrived += 1
            else:
                now, _, act, subject = heappop(events)
                act(now, subject)
        return now

    @property
    def _too_many_misses(self) -> bool:
        return self._misses > self._bounds.misses

    def _begin(self) -> None:
        for number in self._fleet.resize(self._controller.initial, 0.0).starting:
            self._fleet.come_up(number)
        self._sizes.append((0.0, self._fleet.replicas))
        self._at(0.0, self._sample, None)
        self._at(self._controller.next, self._decide, None)

    def _at(self, when: float, act: Callable[[float, Any], None], subject: Any) -> None:
        self._sequence += 1
        heappush(self._events, (when, self._sequence, act, subject))

    def _arrive(self, now: float, job: int) -> None:
        trace = self._trace
        cost = trace.inputs[job] + trace.outputs[job]
        self._ready.submit(job, trace.accounts[job], trace.tiers[job], cost, now)
        self._dispatch(now)

    def _dispatch(self, now: float) -> None:
        """Let workers with free slots claim ready jobs."""
        ready, fleet, together = self._ready, self._fleet, self._together
        at = now + self._profile.claim_seconds
        while ready:
            worker = fleet.take(at, together)
            if worker is None:
                return
            job, start = ready.claim(now)
            self._running += 1
            record = self._record
            if record.starts[job] == NEVER:
                record.starts[job] = at
                if self._on_claim:
                    self._misses += at - self._trace.arrivals[job] > self._bounds.seconds
            made = record.made.get(job, 0)
            record.virtual[job] = start
            prefill = self._trace.inputs[job] + made
            worker.claim(EngineWork(job, prefill, self._trace.outputs[job] - made), at)
            self._schedule(worker)

    def _schedule(self, worker: Worker) -> None:
        if worker.due != worker.scheduled:
            worker.scheduled = worker.due
            if worker.due < inf:
                self._at(worker.due, self._step, worker)

    def _step(self, now: float, worker: Worker) -> None:
        """Handle a step boundary of a worker."""
        if now != worker.due:
            return  # the worker was rescheduled
        for job in worker.advance(now):
            self._end(job, now)
        joined, first = worker.join(now)
        firsts = self._record.firsts
        for job in joined:
            if firsts[job] == NEVER:
                firsts[job] = first
                if not self._on_claim:
                    self._misses += first - self._trace.arrivals[job] > self._bounds.seconds
        self._schedule(worker)
        if worker.draining:
            if not worker.load:
                self._fleet.leave(worker, now)
        elif worker.room:
            self._fleet.offer(worker)
            if self._ready:
                self._dispatch(now)

    def _end(self, job: int, now: float) -> None:
        self._record.ends[job] = now
        self._record.virtual.pop(job, None)
        self._record.made.pop(job, None)
        self._running -= 1
        self._left -= 1

    def _decide(self, now: float, _: object) -> None:
        fleet = self._fleet
        before = fleet.replicas
        wanted = self._controller.decide(now, before, len(self._ready), self._running)
        if wanted != before:
            change = fleet.resize(wanted, now)
            self._sizes.append((now, wanted))
            for number in change.starting:
                self._at(now + self._profile.start_seconds, self._come_up, number)
            for worker in change.draining:
                self._at(now + self._profile.drain_seconds, self._end_drain, worker)
                if not worker.load:
                    fleet.leave(worker, now)
        self._at(self._controller.next, self._decide, None)

    def _come_up(self, now: float, number: int) -> None:
        if self._fleet.come_up(number) is not None:
            self._dispatch(now)

    def _end_drain(self, now: float, worker: Worker) -> None:
        """End a drain: running jobs go back to the front of the queue."""
        for job, made in worker.hand_back(now):
            done = self._record.made.get(job, 0) + made
            if done >= self._trace.outputs[job]:
                self._end(job, now)
                continue
            self._record.made[job] = done
            self._running -= 1
            self._handed += 1
            start = self._record.virtual.pop(job)
            self._ready.put_back(job, self._trace.tiers[job], start, now)
        self._fleet.leave(worker, now)
        self._dispatch(now)

    def _sample(self, now: float, _: object) -> None:
        fleet = self._fleet
        sample = Sample(now, len(self._ready), self._running, fleet.replicas, fleet.serving)
        self._samples.append(sample)
        self._at(now + max(1.0, self._trace.seconds / SAMPLES), self._sample, None)


def check_fits(trace: Trace, profile: EngineProfile) -> None:
    """Check that every request fits into an engine's KV cache.

    Raises:
        TraceInvalid: one does not; the message names it.
    """
    if not profile.kv_tokens:
        return
    for number, pair in enumerate(zip(trace.inputs, trace.outputs, strict=True), start=1):
        if sum(pair) > profile.kv_tokens:
            raise TraceInvalid(
                f"request {number} holds {sum(pair):,} tokens; the engine {profile.name!r} has "
                f"a KV cache of {profile.kv_tokens:,}"
            )
