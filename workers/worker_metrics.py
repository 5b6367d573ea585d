"""Metrics of one worker: waits, tokens and ends of its jobs, and gauges of its engine.

Invariant: an attempt is counted once, however it ends; a token once, when the engine makes it.
"""

import time
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from core import metrics
from core.exposition import ScrapeCollector
from jobs.status import Status
from workers.attempt import Attempt
from workers.circuit_breaker import BreakerState
from workers.engines.base import EngineLoad, Output

TERMINAL = frozenset(status.value for status in Status if status.is_terminal)


class Telemetry:
    """One worker's counters, with their labels bound."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._stepped_at: float | None = None
        self._output = metrics.tokens.labels(model, "output")
        self._input = metrics.tokens.labels(model, "input")
        self._cached = metrics.tokens.labels(model, "cached_input")
        self._inter_token = metrics.inter_token.labels(model)
        self._sequences = metrics.step_sequences.labels(model)

    def started(self, attempt: Attempt) -> None:
        """Count the wait of a job that was claimed; only its first claim counts."""
        claimed = attempt.claimed
        if claimed.fence == 1:
            waited = max(0, claimed.now - claimed.created) / 1000
            tier = claimed.spec.service_tier
            metrics.queue_wait.labels(self._model, tier).observe(waited, attempt.exemplar)

    def accepted(self, attempt: Attempt) -> None:
        """Count the tokens of a rendered prompt."""
        self._input.inc(attempt.input_tokens)

    def stepped(self, outputs: Sequence[Output], now: float) -> None:
        """Count one engine step; `now` is in monotonic seconds."""
        if self._stepped_at is not None:
            self._inter_token.observe(now - self._stepped_at)
        self._stepped_at = now
        self._sequences.observe(len(outputs))
        self._output.inc(sum(len(output.token_ids) for output in outputs))

    def idle(self) -> None:
        """Note that no job runs, so the time until the next step is no inter-token time."""
        self._stepped_at = None

    def first_token(self, attempt: Attempt) -> None:
        """Count the time to an attempt's first token."""
        assert attempt.first_token_at is not None
        seconds = attempt.first_token_at - attempt.claimed_at
        metrics.prefill.labels(self._model).observe(seconds, attempt.exemplar)
        if attempt.claimed.output_tokens == 0:
            tier = attempt.claimed.spec.service_tier
            waited = max(0, attempt.claimed.now - attempt.claimed.created) / 1000
            histogram = metrics.time_to_first_token.labels(self._model, tier)
            histogram.observe(waited + seconds, attempt.exemplar)

    def failed(self, code: str) -> None:
        """Count a failed attempt by its error code."""
        metrics.attempt_failures.labels(self._model, code).inc()

    def ended(self, attempt: Attempt, outcome: str) -> None:
        """Count an attempt that ended; `outcome` is a terminal status if the job ended with it."""
        seconds = time.monotonic() - attempt.claimed_at
        metrics.attempts.labels(self._model, outcome).inc()
        metrics.run_time.labels(self._model).observe(seconds, attempt.exemplar)
        self._cached.inc(attempt.cached_input_tokens)
        if outcome in TERMINAL:
            metrics.jobs_ended.labels(self._model, outcome).inc()
        if outcome == Status.COMPLETED:
            waited = max(0, attempt.claimed.now - attempt.claimed.created) / 1000
            histogram = metrics.job_seconds.labels(self._model, attempt.claimed.spec.service_tier)
            histogram.observe(waited + seconds, attempt.exemplar)
        if outcome == "lost":
            metrics.leases_lost.labels(self._model).inc()


class WorkerCollector(ScrapeCollector):
    """Gauges of one worker, read at each scrape; the engine's appear once it is loaded."""

    def __init__(
        self,
        model: str,
        ready: Callable[[], bool],
        breaker: Callable[[], BreakerState],
        load: Callable[[], tuple[EngineLoad, int, int] | None],
    ) -> None:
        self._model = model
        self._ready = ready
        self._breaker = breaker
        self._load = load

    def collect(self) -> Iterator[Metric]:
        """Return the gauges."""
        ready = "1 when the worker claims jobs"
        yield self._gauge("penstock_worker_ready", ready, self._ready())
        breaker = GaugeMetricFamily(
            "penstock_breaker_state",
            "1 for the state the engine's circuit breaker is in",
            labels=["model", "state"],
        )
        current = self._breaker()
        for state in BreakerState:
            breaker.add_metric([self._model, state], float(state is current))
        yield breaker
        engine = self._load()
        if engine is None:
            return
        load, running, slots = engine
        yield self._gauge("penstock_running_jobs", "Jobs this worker runs", running)
        yield self._gauge("penstock_worker_slots", "Jobs it can run concurrently", slots)
        yield self._gauge("penstock_engine_waiting", "Admitted, not scheduled", load.waiting)
        yield self._gauge("penstock_kv_cache_ratio", "KV cache in use, 0 to 1", load.kv_usage)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["model"])
        family.add_metric([self._model], float(value))
        return family
