"""The known models: workers register what they serve, control processes what is declared.

Invariant: a known model stays known when its workers are scaled to zero, so that jobs for it are
accepted and wake it up. A worker's description replaces a declared one. A retired model is not
known, whatever its workers and the settings say.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson
import structlog
from redis.asyncio import Redis

from core.errors import ModelNotFound
from core.redis.client import guarded
from core.redis.keys import Keys

log = structlog.get_logger()

#: The engine of a model that no worker has registered yet.
DECLARED = "declared"

TEXT_ONLY = frozenset({"text"})


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One served model as its last worker described it. `engine` is the engine's kind.

    Before its first worker it is as declared. `task` is `generate` (text) or `embed`; `modalities`
    are what its prompts may consist of: text, image, video, audio.
    """

    name: str
    max_model_len: int
    engine: str
    created: int
    task: str = "generate"
    modalities: frozenset[str] = TEXT_ONLY


class ModelRegistry:
    """Reads and writes the models hash."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def register(self, model: ServedModel) -> None:
        """Make a model known and give it a queue, unless it is retired."""

        async def write(pipe: Any) -> None:
            if await pipe.hexists(self._keys.retired, model.name):
                log.warning("model_is_retired", model=model.name)
                return
            pipe.multi()
            pipe.hset(self._keys.models, model.name, _encoded(model))
            pipe.sadd(self._keys.queues, model.name)

        await self._redis.transaction(write, self._keys.retired)

    async def keep(self, model: ServedModel) -> None:
        """Add a model to a Redis that has lost it, or has only an older declaration of it.

        It reads first, because at its memory limit Redis refuses even a write that changes nothing.
        """
        async with guarded():
            raw = await self._redis.hget(self._keys.models, model.name)
            if raw is None and await self._redis.hexists(self._keys.retired, model.name):
                return
            if raw is None or _gives_way(orjson.loads(raw), model):
                await self.register(model)
                log.info("model_made_known", model=model.name, engine=model.engine)

    async def list_models(self) -> list[ServedModel]:
        """Return every known model by name."""
        raw = await self._redis.hgetall(self._keys.models)
        models = (_decoded(value) for value in raw.values())
        return sorted(models, key=lambda model: model.name)

    async def get(self, name: str) -> ServedModel:
        """Return one model.

        Raises:
            ModelNotFound: The message names the known models.
        """
        raw = await self._redis.hget(self._keys.models, name)
        if raw is None:
            known = ", ".join(model.name for model in await self.list_models()) or "none yet"
            raise ModelNotFound(f"model {name!r} not found; available: {known}", param="model")
        return _decoded(raw)


def _gives_way(known: dict[str, Any], model: ServedModel) -> bool:
    """Return whether the known entry is a different declaration; a worker's entry stays."""
    same_age = replace(model, created=known["created"])
    return bool(known["engine"] == DECLARED and known != orjson.loads(_encoded(same_age)))


def _encoded(model: ServedModel) -> bytes:
    fields = asdict(model)
    # Processes of an older version know no other task and no other modality.
    if model.task == "generate":
        del fields["task"]
    if model.modalities == TEXT_ONLY:
        del fields["modalities"]
    else:
        fields["modalities"] = sorted(model.modalities)
    return orjson.dumps(fields)


def _decoded(raw: bytes | str) -> ServedModel:
    fields = orjson.loads(raw)
    modalities = frozenset(fields.pop("modalities", TEXT_ONLY))
    return ServedModel(**fields, modalities=modalities)
