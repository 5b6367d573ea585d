"""The state of one worker that its parts share: phase, engine, queue mode, contact with Redis."""

import time
from dataclasses import dataclass, field
from typing import Literal

from jobs.store.queue_control import QueueMode
from workers.engines.base import EngineInfo

Phase = Literal["loading", "ready", "draining"]


@dataclass(slots=True)
class WorkerState:
    """The state of one worker; written on the event loop's thread, read by probes on any.

    Attributes:
        id: The worker's id, unique among all workers.
        queue: The queue it serves, which is the served model's name.
        phase: `ready` while it claims jobs.
        engine: The started engine; None while it loads.
        weights: The digest of the engine's weights; empty while it loads.
        mode: Whether the queue is open or paused.
        last_contact: When Redis last answered a heartbeat, in monotonic seconds.
    """

    id: str
    queue: str
    phase: Phase = "loading"
    engine: EngineInfo | None = None
    weights: str = ""
    mode: QueueMode = QueueMode.OPEN
    last_contact: float = field(default_factory=time.monotonic)

    @property
    def slots(self) -> int:
        """How many jobs the engine runs concurrently; 0 while it loads."""
        return self.engine.slots if self.engine is not None else 0
