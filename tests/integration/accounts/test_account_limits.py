"""An account's limits on endpoints and open batches hold under concurrent requests."""

import asyncio
from datetime import timedelta

from accounts.account_rows import ensure_account
from batches.errors import TooManyBatches
from batches.repository import add_batch, new_batch
from core.db.database import Database
from core.db.tables.base import now
from core.ids import new_id
from webhooks.endpoints import EndpointOwner, create_endpoint, list_endpoints
from webhooks.errors import TooManyEndpoints

MOST, AT_ONCE = 3, 12


async def test_an_account_has_only_so_many_endpoints(database: Database) -> None:
    await ensure_account(database, "acme")
    caller = EndpointOwner("acme", "test")
    answers = await asyncio.gather(
        *(
            create_endpoint(
                database, caller, url="https://a.b/", events=[], description="", max_endpoints=MOST
            )
            for _ in range(AT_ONCE)
        ),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, TooManyEndpoints)]
    assert len(refused) == AT_ONCE - MOST
    assert len(await list_endpoints(database, "acme")) == MOST


async def test_an_account_has_only_so_many_open_batches(database: Database) -> None:
    await ensure_account(database, "acme")
    window = "24h", now() + timedelta(days=1)

    async def add() -> None:
        values = new_batch(
            new_id("batch"), "acme", "0" * 64, "/v1/completions", "file_1", window, {}, None, now()
        )
        await add_batch(database, values, MOST)

    answers = await asyncio.gather(*(add() for _ in range(AT_ONCE)), return_exceptions=True)
    assert answers.count(None) == MOST, answers
    assert sum(isinstance(answer, TooManyBatches) for answer in answers) == AT_ONCE - MOST
