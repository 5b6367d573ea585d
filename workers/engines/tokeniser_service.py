"""Answers requests to the engine's tokeniser beside the jobs.

They take no slot of the engine. Each is handled as the prompt of a job: a large one in a render
helper, where accounts take turns and limits apply. Invariant: a worker has at most
`tokeniser.concurrency` of them at a time, and no request ends the worker.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from core import metrics
from core.errors import EngineError, InvalidJob, PipelineError, StoreUnavailable
from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from jobs.tokenising.messages import TokeniserRequest, encode_answer
from jobs.tokenising.tokeniser_queue import TokeniserQueue
from workers.engines.base import Engine

log = structlog.get_logger()

ANNOUNCE_SECONDS = 3.0
RETRY_SECONDS = 0.5


class TokeniserService:
    """Takes and answers requests until it is stopped."""

    def __init__(self, store: JobStore, engine: Engine, settings: Settings) -> None:
        """Create a service that takes nothing yet.

        Args:
            store: The job store.
            engine: The engine; started before `start` is called.
            settings: The worker's settings.
        """
        self._engine = engine
        self._model = settings.engine.served_name
        self._concurrency = settings.tokeniser.concurrency
        self._queue = TokeniserQueue(store, self._model, settings.redis.timeout_seconds / 2)
        self._stopping = False

    def start(self, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        """Begin to take requests.

        Args:
            spawn: Starts a background task.
        """
        if self._concurrency:
            self._spawn = spawn
            spawn(self._announce())
            spawn(self._run())

    def stop(self) -> None:
        """Take no more requests; those that were taken are answered."""
        self._stopping = True

    async def _announce(self) -> None:
        while not self._stopping:
            try:
                await self._queue.announce()
            except StoreUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await asyncio.sleep(ANNOUNCE_SECONDS)

    async def _run(self) -> None:
        places = asyncio.Semaphore(self._concurrency)
        while not self._stopping:
            await places.acquire()
            try:
                request = await self._queue.take()
            except StoreUnavailable:
                request = None
                await asyncio.sleep(RETRY_SECONDS)
            if request is None:
                places.release()
            else:
                self._spawn(self._serve(request, places))

    async def _serve(self, request: TokeniserRequest, places: asyncio.Semaphore) -> None:
        """Answer a request; if Redis is away, it is lost, and its client is told to repeat it."""
        try:
            await self._queue.answer(request.reply_to, await self._answer(request))
        except StoreUnavailable:
            log.warning("tokeniser_answer_lost", kind=request.kind)
        finally:
            places.release()

    async def _answer(self, request: TokeniserRequest) -> bytes:
        """Return the message with an answer; no request may end the worker."""
        began = time.monotonic()
        try:
            return encode_answer(request.id, await self._engine.tokenise(request))
        except PipelineError as error:
            if not isinstance(error, InvalidJob):
                log.warning("tokeniser_failed", code=error.code, kind=request.kind)
            return encode_answer(request.id, error)
        except Exception:
            log.exception("tokeniser_failed", kind=request.kind)
            return encode_answer(request.id, EngineError("the tokeniser failed"))
        finally:
            metrics.tokeniser_seconds.labels(self._model).observe(time.monotonic() - began)
