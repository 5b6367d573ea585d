"""The workers' side of requests to a tokeniser: take one, answer it, say that they are there.

Invariant: a request is taken by one worker. One that a worker takes and does not answer is lost;
its client is told to repeat it.
"""

from typing import Any

import structlog

from core.redis.client import guarded
from jobs.store.job_store import JobStore
from jobs.tokenising.messages import TokeniserRequest

log = structlog.get_logger()

#: A worker that does not say so again counts as there for so long.
PRESENT_MS = 10_000
#: An answer that its API process does not read is kept for so long.
ANSWER_KEPT_MS = 30_000


class TokeniserQueue:
    """The requests to one model's tokeniser. Every call may raise StoreUnavailable."""

    def __init__(self, store: JobStore, model: str, wait_seconds: float) -> None:
        """Connect to nothing yet.

        Args:
            store: Its Redis client and keys are used.
            model: The served name.
            wait_seconds: How long `take` waits.
        """
        self._redis: Any = store.redis
        self._keys = store.keys
        self._model = model
        self._wait_seconds = wait_seconds

    async def announce(self) -> None:
        """Say that a worker of this model answers requests now."""
        async with guarded():
            await self._redis.set(self._keys.tokenisers(self._model), 1, px=PRESENT_MS)

    async def take(self) -> TokeniserRequest | None:
        """Take the next request; None if none arrives in time, or it cannot be read."""
        async with guarded():
            key = self._keys.tokenise(self._model)
            found = await self._redis.brpop([key], timeout=self._wait_seconds)
        if found is None:
            return None
        try:
            return TokeniserRequest.decode(found[1])
        except (ValueError, TypeError, KeyError):
            log.exception("tokeniser_request_unreadable", size=len(found[1]))
            return None

    async def answer(self, process: str, message: bytes) -> None:
        """Send the message with an answer to the API process that waits for it."""
        key = self._keys.answers(process)
        async with guarded():
            pipe = self._redis.pipeline(transaction=True)
            pipe.lpush(key, message)
            pipe.pexpire(key, ANSWER_KEPT_MS)
            await pipe.execute()
