"""The API's side of requests to a tokeniser: send one, wait for its answer.

One task reads the answers of all requests of the process, over one connection, and only while a
request waits. Invariant: each request ends with its answer or an error; one that is given up is
taken back from the queue, unless a worker has it already.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import structlog

from core.errors import PipelineError, QueueFull, StoreUnavailable
from core.ids import new_id
from core.redis.client import guarded
from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from jobs.store.rate_limits import Quota
from jobs.tokenising.messages import Kind, TokeniserAnswer, TokeniserRequest, decode_answer

log = structlog.get_logger()

RETRY_SECONDS = 0.2


class TokeniserClient:
    """Sends requests of one API process to workers."""

    def __init__(self, store: JobStore, settings: Settings) -> None:
        """Connect to nothing yet.

        Args:
            store: The job store.
            settings: The groups `tokeniser` and `redis` are read.
        """
        self._store = store
        self._redis: Any = store.redis
        self._settings = settings.tokeniser
        self._wait_seconds = settings.redis.timeout_seconds / 2
        self._process = new_id("api")
        self._answers = store.keys.answers(self._process)
        self._waiting: dict[str, asyncio.Future[TokeniserAnswer | PipelineError]] = {}
        self._open: Counter[str] = Counter()
        self._reader: asyncio.Task[None] | None = None

    async def ask(
        self, model: str, account: str, quota: Quota, kind: Kind, body: dict[str, Any]
    ) -> TokeniserAnswer:
        """Send a request and wait for its answer; the caller bounds the wait.

        Args:
            model: The served name.
            account: Whose request it is.
            quota: Its rates of requests are used; tokens cost nothing.
            kind: What is asked.
            body: See `TokeniserRequest`.

        Raises:
            InvalidJob, ContextLengthExceeded: the request is wrong.
            RateLimited: a rate of the key or its account has no room now.
            QueueFull: too many requests wait, of the account here or of the model.
            TokeniserUnavailable: no worker of the model runs.
            EngineError: the worker could not answer.
            StoreUnavailable: Redis is away.
        """
        request = TokeniserRequest(new_id("tok"), self._process, account, kind, body)
        message = request.encode()
        with self._place(account):
            future: asyncio.Future[TokeniserAnswer | PipelineError]
            future = self._waiting[request.id] = asyncio.get_running_loop().create_future()
            try:
                await self._store.ask_tokeniser(model, account, quota, message)
                self._start_reader()
                answer = await future
            finally:
                del self._waiting[request.id]
                if not future.done() or future.cancelled():
                    await self._take_back(model, message)
        if isinstance(answer, PipelineError):
            raise answer
        return answer

    async def close(self) -> None:
        """Stop reading answers."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    @contextmanager
    def _place(self, account: str) -> Iterator[None]:
        """Count a request of an account while it is open."""
        most = self._settings.open_per_account
        if self._open[account] >= most:
            raise QueueFull(
                f"this account has {most} requests to tokenisers open: repeat it when one of them"
                " is answered",
                retry_after_seconds=RETRY_SECONDS,
            )
        self._open[account] += 1
        try:
            yield
        finally:
            self._open[account] -= 1
            if not self._open[account]:
                del self._open[account]

    async def _take_back(self, model: str, message: bytes) -> None:
        with suppress(StoreUnavailable):  # then a worker answers it, and the answer expires
            async with guarded():
                await self._redis.lrem(self._store.keys.tokenise(model), 1, message)

    def _start_reader(self) -> None:
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while self._waiting:
            try:
                async with guarded():
                    found = await self._redis.blpop([self._answers], timeout=self._wait_seconds)
            except StoreUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if found is not None:
                self._settle(found[1])

    def _settle(self, raw: bytes) -> None:
        try:
            request_id, answer = decode_answer(raw)
        except (ValueError, TypeError, KeyError):
            log.exception("tokeniser_answer_unreadable", size=len(raw))
            return
        future = self._waiting.get(request_id)
        if future is not None and not future.done():
            future.set_result(answer)
