"""Looking up callers in Redis: bad records and concurrent reads never block a lookup."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from accounts.cache_writer import COMPLETE
from accounts.caller import Caller
from accounts.caller_cache import CallerCache
from core.errors import StoreUnavailable
from jobs.store.job_store import JobStore

GOOD = Caller(id="key_1", account="acme")


async def nobody(_fields: Sequence[str]) -> Mapping[str, bytes]:
    return {}


async def test_a_record_that_cannot_be_read_is_no_other_callers_trouble(store: JobStore) -> None:
    """As when a newer version wrote a role that this version does not know."""
    records = {"a": GOOD.model_dump_json(), "b": '{"role": "new"}', "c": GOOD.model_dump_json()}
    await store.redis.hset(store.keys.callers, mapping={COMPLETE: "1", **records})
    callers = CallerCache(store.redis, store.keys, nobody)
    async with asyncio.timeout(5):
        asked = (callers.find(field) for field in "abcd")
        a, b, c, d = await asyncio.gather(*asked, return_exceptions=True)
        assert (a, c, d) == (GOOD, GOOD, None)
        assert isinstance(b, StoreUnavailable)
        with pytest.raises(StoreUnavailable):
            await callers.find("b")
        await store.redis.hset(store.keys.callers, "b", GOOD.model_dump_json())
        assert await callers.find("b") == GOOD
    await callers.close()
