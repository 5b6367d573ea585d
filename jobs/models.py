"""Which models there are: each worker registers what it serves.

Invariant: a registered model stays known when its workers are scaled to zero, so that jobs
for it are accepted and wake it up.
"""

from dataclasses import asdict, dataclass

import orjson
import structlog
from redis.asyncio import Redis

from jobs.connection import guarded
from jobs.errors import ModelNotFound
from jobs.keys import Keys

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One served model as its last worker described it. `engine` is the engine's kind.

    `task` is what it does: `generate` text, or `embed` it.
    """

    name: str
    max_model_len: int
    engine: str
    created: int
    task: str = "generate"


class ModelRegistry:
    """Reads and writes the models hash."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def register(self, model: ServedModel) -> None:
        """Make a model known and give it a queue."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.hset(self._keys.models, model.name, _encoded(model))
        pipe.sadd(self._keys.queues, model.name)
        await pipe.execute()

    async def keep(self, model: ServedModel) -> None:
        """Make a model known to a Redis that has lost it, or never heard of it.

        It looks first: at its memory limit Redis refuses a write that would change nothing, too.
        """
        async with guarded():
            if not await self._redis.hexists(self._keys.models, model.name):
                await self.register(model)
                log.warning("model_made_known_again", model=model.name)

    async def list_models(self) -> list[ServedModel]:
        """Return every known model by name."""
        raw = await self._redis.hgetall(self._keys.models)
        return sorted(
            (ServedModel(**orjson.loads(value)) for value in raw.values()),
            key=lambda model: model.name,
        )

    async def get(self, name: str) -> ServedModel:
        """Return one model.

        Raises:
            ModelNotFound: naming the models there are.
        """
        raw = await self._redis.hget(self._keys.models, name)
        if raw is None:
            known = ", ".join(model.name for model in await self.list_models()) or "none yet"
            raise ModelNotFound(f"no model {name!r} here; there is: {known}", param="model")
        return ServedModel(**orjson.loads(raw))


def _encoded(model: ServedModel) -> bytes:
    fields = asdict(model)
    if model.task == "generate":
        del fields["task"]  # processes of an older version know no other
    return orjson.dumps(fields)
