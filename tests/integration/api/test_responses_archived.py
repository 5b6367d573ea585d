"""Responses that Redis has deleted: the archive keeps those that the client asked to store."""

import asyncio

import openai
import pytest
from sqlalchemy import select

from core.db.database import Database
from core.db.tables.base import table_of
from core.db.tables.usage import ArchivedJobRow
from jobs.archive.job_archive import erase_archived
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import MODEL, Hand, answering
from tests.support.ledger import consuming, until_consumed
from tests.support.waiting import eventually

JOBS = table_of(ArchivedJobRow)
SECRET = "what nobody else may read"


pytestmark = pytest.mark.settings(retention__start="archive", retention__seconds=1)


async def forgotten(store: JobStore, database: Database, *names: str) -> None:
    """Have the ledger archive everything, and wait until Redis has none of it."""
    async with consuming(store, database):
        await until_consumed(store)
    keys = [store.keys.job(name.replace("resp_", "job_")) for name in names]

    async def gone() -> bool:
        return not await store.redis.exists(*keys)

    await eventually(gone)


async def records(database: Database) -> dict[str, str]:
    async with database.read() as connection:
        rows = await connection.execute(select(JOBS.c.job_id, JOBS.c.record))
        return {row.job_id.replace("job_", "resp_"): row.record for row in rows}


async def test_a_stored_response_is_read_and_gone_on_from_after_retention(
    ai: openai.AsyncOpenAI, hand: Hand, store: JobStore, database: Database
) -> None:
    async with answering(hand, "first", " answer"):
        live = await ai.responses.create(model=MODEL, instructions="Be brief.", input="question")
    await forgotten(store, database, live.id)

    kept = await ai.responses.retrieve(live.id)
    assert kept.to_dict() == live.to_dict()
    items = await ai.responses.input_items.list(live.id)
    assert items.data[0].content[0].text == "question"  # type: ignore[union-attr]
    assert (await ai.responses.cancel(live.id)).status == "completed"
    with pytest.raises(openai.NotFoundError) as no_events:
        await ai.responses.retrieve(live.id, stream=True)
    assert "without stream" in no_events.value.message
    async with answering(hand, "more") as taken:
        await ai.responses.create(model=MODEL, input="and?", previous_response_id=live.id)
    contents = [message["content"] for message in taken[0].spec.body["messages"]]
    assert contents == ["question", "first answer", "and?"]

    await ai.responses.delete(live.id)
    with pytest.raises(openai.NotFoundError):
        await ai.responses.retrieve(live.id)
    assert live.id not in await records(database)


async def test_the_archive_has_the_prompt_of_no_job_that_was_not_to_be_stored(
    ai: openai.AsyncOpenAI, hand: Hand, store: JobStore, database: Database
) -> None:
    async with answering(hand, "ok", jobs=3):
        unstored, stored, chat = await asyncio.gather(
            ai.responses.create(model=MODEL, input=SECRET, store=False),
            ai.responses.create(model=MODEL, input=SECRET),
            ai.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": SECRET}],
                metadata={"response": "{"},
            ),
        )
    names = [unstored.id, stored.id, chat.id.replace("chatcmpl-", "resp_")]
    await forgotten(store, database, *names)

    found = await records(database)

    assert [SECRET in found[name] for name in names] == [False, True, False]
    with pytest.raises(openai.NotFoundError):
        await ai.responses.retrieve(unstored.id)


async def test_an_answer_whose_log_went_between_two_reads_is_never_an_empty_one(
    ai: openai.AsyncOpenAI, hand: Hand, store: JobStore, database: Database
) -> None:
    async with answering(hand, "hi", jobs=2):
        kept = await ai.responses.create(model=MODEL, input="a")
        erased = await ai.responses.create(model=MODEL, input="b")
    async with consuming(store, database):
        await until_consumed(store)
    for name in (kept.id, erased.id):
        job_id = name.replace("resp_", "job_")
        assert await store.redis.persist(store.keys.job(job_id))
        await store.redis.delete(store.keys.log(job_id))
    await erase_archived(database, [erased.id.replace("resp_", "job_")])

    assert (await ai.responses.retrieve(kept.id)).output_text == "hi"
    with pytest.raises(openai.NotFoundError):
        await ai.responses.retrieve(erased.id)
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        await ai.responses.create(model=MODEL, input="and?", previous_response_id=erased.id)
