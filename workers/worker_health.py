"""What one worker shows of itself: liveness, readiness, status and metrics."""

import time

import orjson
from prometheus_client.registry import Collector

from core import metrics
from core.settings.tree import Settings
from workers.circuit_breaker import CircuitBreaker
from workers.engines.base import Engine, EngineLoad
from workers.gpu_metrics import open_gpus
from workers.runner import Runner
from workers.worker_metrics import WorkerCollector
from workers.worker_state import WorkerState

#: A worker whose heartbeat Redis has not accepted for so long is not ready.
READY_SILENCE_SECONDS = 6.0


class WorkerHealth:
    """Answers the probes of one worker; its methods may be called from any thread."""

    def __init__(
        self,
        state: WorkerState,
        settings: Settings,
        engine: Engine,
        runner: Runner,
        breaker: CircuitBreaker,
    ) -> None:
        self._state = state
        self._settings = settings
        self._engine = engine
        self._runner = runner
        self._breaker = breaker

    def liveness(self) -> str | None:
        """Return why a restart would help; None while the worker is live."""
        silent = time.monotonic() - self._state.last_contact
        loaded = self._state.engine is not None
        if loaded and silent > self._settings.worker.redis_unreachable_seconds:
            return f"no answer from Redis for {silent:.0f} s"
        return None

    def readiness(self) -> str | None:
        """Return why the worker claims no jobs; None while it does."""
        if self._state.phase != "ready":
            return self._state.phase
        if not self._breaker.allows_claims:
            return f"breaker {self._breaker.state}"
        silent = time.monotonic() - self._state.last_contact
        if silent > READY_SILENCE_SECONDS:
            return f"Redis has not accepted a heartbeat for {silent:.0f} s"
        return self.liveness()

    def describe(self) -> bytes:
        """Return as JSON what `/circuit-breaker/status` shows of this worker."""
        return orjson.dumps(
            {
                "id": self._state.id,
                "queue": self._state.queue,
                "state": self._state.phase,
                "engine": self._settings.engine.kind,
                "slots": self._state.slots,
                "weights": self._state.weights,
                "running": len(self._runner.attempts),
                "breaker": self._breaker.describe(),
            }
        )

    def collectors(self) -> list[Collector]:
        """Return the metrics of the worker, its engine and its GPUs."""
        own = WorkerCollector(
            self._state.queue,
            ready=lambda: self.readiness() is None,
            breaker=lambda: self._breaker.state,
            load=self._load,
        )
        gpus = open_gpus(self._state.queue)
        collectors: list[Collector] = [metrics.WORKER, own]
        return collectors if gpus is None else [*collectors, gpus]

    def _load(self) -> tuple[EngineLoad, int, int] | None:
        """Return the engine's load, running jobs and slots; None while it loads."""
        if self._state.engine is None:
            return None
        return self._engine.load(), len(self._runner.attempts), self._state.slots
