"""Retires models: a retired model is not listed and accepts nothing, whatever workers say.

Invariant: a job that was accepted before its model was retired still ends: it is finished by a
worker, or fails into the dead-letter list, as the operator chose.
"""

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import orjson
from redis.asyncio import Redis

from core.errors import ModelBusy, ModelNotFound, ModelRetired
from core.redis.client import guarded
from core.redis.keys import Keys
from core.redis.scripts import Scripts
from jobs.store.queue_control import PURGE_SECONDS, QueueControl, QueueMode
from jobs.store.script_args import QueueArgs, RetireArgs
from jobs.store.script_rows import RetirementRow, RetirementState

#: What happens to jobs that were accepted before: refuse to retire, finish them, or fail them.
RetiredJobs = Literal["refuse", "finish", "dead_letter"]


class ModelState(StrEnum):
    """Whether a model is served, has jobs left, or is gone."""

    RETIRING = "retiring"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class RetiredModel:
    """A retired model; `at` in Unix ms, counts as they are now."""

    name: str
    state: ModelState
    jobs: RetiredJobs
    by: str
    at: int
    waiting: int = 0
    running: int = 0
    workers: int = 0


class ModelRetirement:
    """Retired models in Redis. Every call may raise StoreUnavailable."""

    def __init__(self, redis: Redis, keys: Keys, scripts: Scripts, control: QueueControl) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._scripts = scripts
        self._control = control

    async def retire(self, model: str, jobs: RetiredJobs, by: str) -> RetiredModel:
        """Retire a model. May be repeated, with another choice for its jobs.

        Args:
            model: The served name.
            jobs: What happens to its jobs.
            by: Who does it, shown to operators.

        Returns:
            The model; `retiring` while it has jobs.

        Raises:
            ModelNotFound: No such model is known.
            ModelBusy: It has jobs, and `jobs` is `refuse`.
        """
        mark = {"jobs": jobs, "by": by, "at": int(time.time() * 1000)}
        mode = QueueMode.CLOSED if jobs == "dead_letter" else QueueMode.DRAINING
        row = await self._step(model, orjson.dumps(mark), mode, by, must_be_idle=jobs == "refuse")
        if row.state is RetirementState.UNKNOWN_MODEL:
            raise ModelNotFound(f"model {model!r} not found", param="model")
        if row.state is RetirementState.MODEL_BUSY:
            raise ModelBusy(
                f"model {model!r} has {row.waiting} waiting and {row.running} running jobs:"
                " choose what happens to them with `jobs`",
                param="jobs",
            )
        return await self._go_on(model, PURGE_SECONDS)

    async def restore(self, model: str) -> None:
        """End a retirement; the model is known again as soon as a worker serves it.

        Raises:
            ModelNotFound: It is not retired.
        """
        if not await self._scripts.call("restore", *QueueArgs(model)):
            raise ModelNotFound(f"model {model!r} is not retired", param="model")

    async def retired(self, seconds: float = 0.0) -> list[RetiredModel]:
        """Return all models that are retired or being retired, by name; go on with the latter.

        Args:
            seconds: How long to fail waiting jobs of each model, where the operator chose that.
        """
        async with guarded():
            names = await self._redis.hkeys(self._keys.retired)
        return [await self._go_on(name.decode(), seconds) for name in sorted(names)]

    async def _go_on(self, model: str, seconds: float) -> RetiredModel:
        """Fail waiting jobs where that is wanted, and forget the queue once it is empty."""
        async with guarded():
            raw = await self._redis.hget(self._keys.retired, model)
        if raw is None:
            raise ModelNotFound(f"model {model!r} is not retired", param="model")
        mark = orjson.loads(raw)
        if mark["jobs"] == "dead_letter" and seconds:
            error = ModelRetired(f"model {model!r} was retired before the job ran")
            await self._control.purge(model, seconds, error)
        row = await self._step(model)
        done = row.state is RetirementState.RETIRED
        state = ModelState.RETIRED if done else ModelState.RETIRING
        return RetiredModel(
            name=model,
            state=state,
            jobs=mark["jobs"],
            by=mark["by"],
            at=mark["at"],
            waiting=row.waiting,
            running=row.running,
            workers=row.workers,
        )

    async def _step(
        self,
        model: str,
        mark: bytes = b"",
        mode: QueueMode = QueueMode.CLOSED,
        by: str = "",
        *,
        must_be_idle: bool = False,
    ) -> RetirementRow:
        named = RetireArgs(model, mark, mode, by, str(int(must_be_idle)))
        return RetirementRow.of(await self._scripts.call("retire", *named))
