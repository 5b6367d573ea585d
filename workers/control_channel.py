"""The control channel: Redis pub/sub messages that tell one worker to act immediately.

They carry cancels, watching clients and queue modes. Invariant: a lost message only delays the
action, because the next append's answer or the next heartbeat says the same.
"""

import asyncio
from collections.abc import Callable

import structlog
from redis.exceptions import RedisError

from core.redis.client import messages
from jobs.store.job_store import JobStore
from jobs.store.queue_control import QueueMode
from workers.runner import Runner

log = structlog.get_logger()

RECONNECT_SECONDS = 0.5


class ControlChannel:
    """Listens to the control messages of one worker."""

    def __init__(
        self, store: JobStore, worker: str, runner: Runner, set_mode: Callable[[QueueMode], None]
    ) -> None:
        """Create a channel that is not subscribed yet.

        Args:
            store: Its Redis client and keys are used.
            worker: The worker's id, which names the channel.
            runner: Receives cancels and watching clients.
            set_mode: Receives queue modes.
        """
        self._store = store
        self._worker = worker
        self._runner = runner
        self._set_mode = set_mode

    async def run(self) -> None:
        """Listen until cancelled; subscribe again after a lost connection."""
        while True:
            try:
                async with self._store.redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(self._store.keys.control(self._worker))
                    async for message in messages(pubsub):
                        if message["type"] == "message":
                            self._obey(message["data"].decode())
            except (RedisError, OSError) as error:
                log.warning("control_channel_disconnected", error=type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)

    def _obey(self, message: str) -> None:
        verb, _, argument = message.partition(" ")
        if verb == "cancel":
            self._runner.cancel(argument)
        elif verb == "watch":
            self._runner.watched(argument)
        elif verb == "mode":
            self._set_mode(QueueMode(argument))
