"""Live events for all watchers of one process, over a single pub/sub connection.

A follower registers first, then replays the log after its cursor, then takes published events and
fills any gap from the log. Invariant: a follower yields each event once, in order, even if pub/sub
loses messages. At most `buffer_events` wait for a slow follower; beyond that the buffer is dropped
and read from the log again when the follower is ready.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.errors import JobGone, StoreUnavailable
from core.ids import new_id
from core.redis.client import messages
from core.settings.api import StreamSettings
from jobs.events import Event, EventType, from_frame
from jobs.store.job_store import JobStore

log = structlog.get_logger()

RECONNECT_SECONDS = 0.25
#: How long a follower waits for an unreachable Redis before its stream ends (resumable).
OUTAGE_SECONDS = 60.0


class Follower:
    """One watcher's bounded buffer, and an event that wakes it."""

    __slots__ = ("_bell", "_buffer", "_limit", "overflowed")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer: deque[Event] = deque()
        self._bell = asyncio.Event()
        self.overflowed = False

    def put(self, event: Event) -> None:
        """Buffer an event, or note that the log has more."""
        if len(self._buffer) >= self._limit:
            self._buffer.clear()
            self.overflowed = True
        if not self.overflowed:
            self._buffer.append(event)
        self._bell.set()

    def suspect(self) -> None:
        """Read the log next, because events may have been missed."""
        self._buffer.clear()
        self.overflowed = True
        self._bell.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for new events; False when none came in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> list[Event]:
        """Take everything buffered."""
        self._bell.clear()
        taken = list(self._buffer)
        self._buffer.clear()
        return taken


class EventHub:
    """Dispatches published frames to the followers of this process."""

    def __init__(self, store: JobStore, settings: StreamSettings) -> None:
        self.id = new_id("hub")
        self._store = store
        self._redis: Redis = store.redis
        self._settings = settings
        self._followers: dict[str, set[Follower]] = {}
        self._task: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()

    async def start(self) -> None:
        """Subscribe; followers may register before the connection is open."""
        self._task = asyncio.create_task(self._listen(), name="event-hub")

    async def close(self) -> None:
        """Unsubscribe."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @property
    def connected(self) -> bool:
        """Whether published events arrive."""
        return self._connected.is_set()

    @property
    def followers(self) -> int:
        """How many streams are open."""
        return sum(len(group) for group in self._followers.values())

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=False) as pubsub:
                    await pubsub.subscribe(self._store.keys.events(self.id))
                    async for message in messages(pubsub, self._store.check_writable):
                        if message["type"] == "subscribe":
                            self._connected.set()
                            self._suspect_all()
                        elif message["type"] == "message":
                            self._dispatch(message["data"])
            except (RedisError, OSError) as error:
                self._connected.clear()
                log.warning("event_hub_disconnected", error=type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)

    def _suspect_all(self) -> None:
        for group in self._followers.values():
            for follower in group:
                follower.suspect()

    def _dispatch(self, frame: bytes) -> None:
        for job_id, event in from_frame(frame):
            for follower in self._followers.get(job_id, ()):
                follower.put(event)

    async def follow(
        self,
        job_id: str,
        account: str,
        after: int,
        patience: Callable[[], float] | None = None,
    ) -> AsyncGenerator[list[Event], None]:
        """Yield batches of events after seq `after` until the job has finished.

        Args:
            job_id: The job.
            account: The account it must belong to.
            after: The number of the last event that is known.
            patience: Returns how many seconds to wait for the next event before an empty batch is
                yielded; `ping_seconds` by default, which is also the most.

        Raises:
            JobNotFound, JobGone: As `JobStore.get`.
            StoreUnavailable: Redis stayed away for OUTAGE_SECONDS.
        """
        follower = Follower(self._settings.buffer_events)
        self._followers.setdefault(job_id, set()).add(follower)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._connected.wait()
            status, last = await self._store.watch(job_id, account, self.id)
            if status.is_terminal and after >= last:
                return
            cursor = after
            follower.suspect()
            while True:
                seconds = self._settings.ping_seconds if patience is None else patience()
                batch = await self._next_batch(job_id, account, follower, cursor, seconds)
                yield batch
                if batch:
                    cursor = batch[-1].seq
                    if batch[-1].type == EventType.FINISHED:
                        return
        finally:
            await self._leave(job_id, follower)

    async def _leave(self, job_id: str, follower: Follower) -> None:
        group = self._followers[job_id]
        group.discard(follower)
        if not group:
            del self._followers[job_id]
            # The scripts also remove a registration whose frames have no receiver.
            with suppress(StoreUnavailable, asyncio.CancelledError):
                await self._store.unwatch(job_id, self.id)
            # A new follower may have registered meanwhile; its registration was just removed.
            for newcomer in self._followers.get(job_id, ()):
                newcomer.suspect()

    async def _next_batch(
        self, job_id: str, account: str, follower: Follower, cursor: int, seconds: float
    ) -> list[Event]:
        while True:
            rang = follower.overflowed or await follower.wait(seconds)
            if not rang and seconds < self._settings.ping_seconds:
                return []  # too short a silence to suspect a loss
            published = [event for event in follower.take() if event.seq > cursor]
            whole = bool(published) and published[-1].seq == cursor + len(published)
            if whole and not follower.overflowed:
                return published
            if rang and not follower.overflowed and not published:
                continue
            # A gap, an overflow or a long silence: read the log.
            follower.overflowed = False
            events = await self._from_log(job_id, account, cursor)
            # A full page means that there is more; read on without waiting.
            follower.overflowed = len(events) == self._settings.replay_events
            if events or not rang:
                return events

    async def _from_log(self, job_id: str, account: str, cursor: int) -> list[Event]:
        """Read on from the log; wait while Redis is away for a short time."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + OUTAGE_SECONDS
        while True:
            try:
                status, _ = await self._store.watch(job_id, account, self.id)
                events = await self._store.read_log(job_id, cursor, self._settings.replay_events)
            except StoreUnavailable:
                if loop.time() > give_up:
                    raise
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            if status.is_terminal and not events:
                # The job was lost with the tail of Redis's append-only file: fail instead of
                # waiting.
                raise JobGone(f"the last events of job {job_id} are not kept any more")
            return events
