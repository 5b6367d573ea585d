"""A pool of helper processes that accounts use in turns.

Each helper has a thread that waits for it, so the event loop never does. Within an account,
requests run in the order of arrival.

Invariant: every piece of work ends: with a result, an error, or None if it was dropped.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import structlog

from core.errors import EngineDead, EngineError
from workers.engines.helpers.helper_process import HelperDropped, HelperProcess

log = structlog.get_logger()

R = TypeVar("R")


class Work(Generic[R]):
    """One request that waits for a helper or runs with one.

    Attributes:
        future: The result; None if the work was dropped.
    """

    def __init__(self, account: str, run: Callable[[HelperProcess], R]) -> None:
        self.account = account
        self.run = run
        self.future: asyncio.Future[R | None] = asyncio.get_running_loop().create_future()
        self.helper: HelperProcess | None = None


class HelperPool:
    """Use it from the event loop's thread only."""

    def __init__(self, helpers: Sequence[HelperProcess], progress: Callable[[], None]) -> None:
        """Create a pool whose helpers are not started.

        Args:
            helpers: The helpers.
            progress: Called when a helper has begun or ended a piece of work.
        """
        self._helpers = helpers
        self._progress = progress
        self._queues: OrderedDict[str, deque[Work[Any]]] = OrderedDict()
        self._running: set[Work[Any]] = set()
        self._arrived = asyncio.Event()
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix="helper") for _ in helpers]
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """The ids of the processes that run."""
        return [helper.pid for helper in self._helpers if helper.pid is not None]

    @property
    def running(self) -> int:
        """How many pieces of work have a helper."""
        return len(self._running)

    def start(self) -> None:
        """Start the helpers in the background, so that the first request does not wait for them."""
        if not self._tasks and not self._closed:
            pairs = zip(self._helpers, self._threads, strict=True)
            self._tasks = [asyncio.create_task(self._serve(*pair)) for pair in pairs]

    def submit(self, account: str, run: Callable[[HelperProcess], R]) -> Work[R]:
        """Let a helper do a piece of work.

        Args:
            account: Whose turn it takes.
            run: Called in a helper's thread.

        Returns:
            The work; await its future.

        Raises:
            EngineDead: the pool was closed.
        """
        if self._closed:
            raise EngineDead("the engine was closed", from_outside=True)
        work = Work(account, run)
        self._queues.setdefault(account, deque()).append(work)
        self._arrived.set()
        self.start()
        return work

    def drop(self, work: Work[Any]) -> None:
        """Give up a piece of work; what runs of it is killed."""
        if not work.future.done():
            work.future.set_result(None)
        if work.helper is not None:
            work.helper.drop()
        elif work in self._queues.get(work.account, ()):
            self._queues[work.account].remove(work)

    async def close(self) -> None:
        """Kill all helpers; work that is not done ends with EngineDead."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for helper in self._helpers:
            helper.end()
        waiting = [work for queue in self._queues.values() for work in queue]
        for work in (*self._running, *waiting):
            if not work.future.done():
                work.future.set_exception(EngineDead("the engine was closed", from_outside=True))
        self._queues.clear()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        loop = asyncio.get_running_loop()
        pairs = zip(self._helpers, self._threads, strict=True)
        await asyncio.gather(*(loop.run_in_executor(t, helper.kill) for helper, t in pairs))
        for thread in self._threads:
            thread.shutdown(wait=False)

    async def _serve(self, helper: HelperProcess, thread: ThreadPoolExecutor) -> None:
        """Run one piece of work after the other with one helper."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(thread, helper.start)
            except HelperDropped:
                pass
            except EngineError:  # the next piece of work tries again and reports why
                log.exception("helper_not_started")
            work = await self._next()
            helper.accept()
            work.helper = helper
            self._running.add(work)
            self._progress()
            try:
                result = await loop.run_in_executor(thread, work.run, helper)
            except HelperDropped:
                pass
            except Exception as error:  # noqa: BLE001  # the future carries it
                if not work.future.done():
                    work.future.set_exception(error)
            else:
                if not work.future.done():
                    work.future.set_result(result)
            finally:
                work.helper = None
                self._running.discard(work)
            self._progress()

    async def _next(self) -> Work[Any]:
        """Return the next piece of work of the account whose turn it is."""
        while True:
            for account in list(self._queues):
                queue = self._queues.pop(account)
                if not queue:
                    continue
                work = queue.popleft()
                if queue:
                    self._queues[account] = queue  # at the end: the others come first
                return work
            self._arrived.clear()
            await self._arrived.wait()
