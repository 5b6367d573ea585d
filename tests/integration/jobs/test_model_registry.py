"""The model registry: which models exist, and which registration wins."""

from dataclasses import replace

import orjson
import pytest

from core.runtime.child_process import variables
from core.settings.tree import Settings
from jobs.model_registry import DECLARED, ModelRegistry, ServedModel
from jobs.store.job_store import JobStore

DECLARATION = ServedModel("llama", 2048, DECLARED, 1)
SERVED = ServedModel("llama", 4096, "vllm", 2)


async def test_a_corrected_declaration_counts_and_an_unchanged_one_is_not_written_again(
    store: JobStore,
) -> None:
    models = ModelRegistry(store.redis, store.keys)
    await models.keep(DECLARATION)
    await models.keep(replace(DECLARATION, created=5))
    assert await models.get("llama") == DECLARATION
    corrected = replace(DECLARATION, max_model_len=16_384, task="embed")
    await models.keep(corrected)
    assert await models.get("llama") == corrected


async def test_what_a_worker_says_replaces_a_declaration_and_not_the_other_way(
    store: JobStore,
) -> None:
    models = ModelRegistry(store.redis, store.keys)
    await models.keep(DECLARATION)
    await models.keep(SERVED)
    assert await models.get("llama") == SERVED
    await models.keep(replace(DECLARATION, max_model_len=999))
    await models.keep(replace(SERVED, created=9))
    assert await models.get("llama") == SERVED
    await store.redis.delete(store.keys.models)
    await models.keep(SERVED)
    assert await models.get("llama") == SERVED


async def test_modalities_are_kept_and_text_alone_is_as_in_older_versions(store: JobStore) -> None:
    models = ModelRegistry(store.redis, store.keys)
    seer = replace(SERVED, name="seer", modalities=frozenset({"text", "image"}))
    await models.register(SERVED)
    await models.register(seer)
    assert await models.list_models() == [SERVED, seer]
    text_only, both = await store.redis.hmget(store.keys.models, ["llama", "seer"])
    assert "modalities" not in orjson.loads(text_only)
    assert orjson.loads(both)["modalities"] == ["image", "text"]


def test_declared_modalities_reach_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"seer": {"max_model_len": 2048, "modalities": ["text", "image"]}}
    given = Settings(_env_file=None, control={"models": models})
    for name, value in variables(given).items():
        monkeypatch.setenv(name, value)
    assert Settings(_env_file=None).control.models == given.control.models
