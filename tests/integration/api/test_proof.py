"""A client verifies its bill from the stream it received and the usage proof."""

import base64
import hashlib
import json
from array import array
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from billing.invoices.close import close_month
from billing.months import month_of, next_month
from core.db.database import Database
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.transitions import Ending
from tests.integration.api.conftest import (
    MODEL,
    Hand,
    Keys,
    RunningApi,
    connect,
    read_stream,
    says,
    submit,
)
from tests.support.ledger import a_price, consuming, until_consumed
from tests.support.months import SELLER
from tests.support.waiting import eventually
from wire.schemas.usage import UsageProof

WEIGHTS = "0123456789abcdef"
EMBEDDER = "embedder"

pytestmark = pytest.mark.settings(retention__start="archive", retention__seconds=2)


@pytest.fixture
async def database(database: Database) -> Database:
    """The same, with the model's price."""
    await a_price(database, MODEL)
    return database


async def proof_of(client: httpx2.AsyncClient, job_id: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/usage/{job_id}/proof")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    UsageProof.model_validate(found)
    return found


async def answered(
    client: httpx2.AsyncClient, hand: Hand, database: Database, **fields: Any
) -> str:
    """Run a job with two choices to its end and into the ledger."""
    job_id = await submit(client, **fields)
    hand.weights = WEIGHTS
    job = await hand.take()
    await hand.write(job, ("delta", {**says("Grüße "), "token_ids": [11, 12]}))
    await hand.write(job, ("delta", says("b", index=1)), ("delta", says("!")))
    await hand.finish(job)
    async with consuming(hand.store, database):
        await until_consumed(hand.store)
    return job_id


def hashes(events: list[Any]) -> list[dict[str, Any]]:
    """Compute, as docs/billing.md says, what a stream delivered."""
    ids: dict[int, list[int]] = {}
    text: dict[int, str] = {}
    for event in events:
        if event.event == "restarted":
            ids, text = {}, {}
        if event.event == "delta":
            index = event.json["index"]
            ids[index] = ids.get(index, []) + event.json["token_ids"]
            text[index] = text.get(index, "") + event.json["text"]
    return [
        {
            "index": index,
            "output_tokens": len(ids[index]),
            "token_ids_sha256": _sha256(json.dumps(ids[index], separators=(",", ":"))),
            "text_sha256": _sha256(text[index]),
            "vector_sha256": None,
        }
        for index in sorted(ids)
    ]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def test_a_client_recomputes_hashes_and_amounts_from_what_it_received(
    client: httpx2.AsyncClient, hand: Hand, database: Database
) -> None:
    job_id = await answered(client, hand, database, service_tier="priority")
    _, events = await read_stream(client, f"/v1/jobs/{job_id}/stream")

    proof = await proof_of(client, job_id)

    delivered, price, cost = proof["delivered"], proof["price"], proof["cost"]
    assert delivered["kept_in"] == "log"
    assert delivered["choices"] == hashes(events)
    assert delivered["events"] == events[-2].json["sequence_number"]
    total = sum(choice["output_tokens"] for choice in delivered["choices"])
    assert total == proof["usage"]["output_tokens"] == proof["charged"]["output"] == 4
    for kind, tokens in proof["charged"].items():
        exact = Decimal(tokens) * Decimal(price["per_million"][kind]) / 1_000_000
        assert exact * Decimal(cost["multiplier"]) == Decimal(cost[kind])

    async def priced() -> Any:
        shown = (await client.get(f"/v1/jobs/{job_id}")).json()
        return shown["cost"] and shown

    job = await eventually(priced)
    assert cost == job["cost"]
    assert proof["usage"] == job["usage"] | {"vectors": 0}
    assert proof["weights"] == job["weights"] == WEIGHTS
    assert proof["finished_at"] == job["completed_at"]
    assert proof["ledger"]["id"] == job_id


async def test_after_retention_the_archive_proves_the_same_and_then_only_the_ledger_is_left(
    client: httpx2.AsyncClient, hand: Hand, store: JobStore, database: Database
) -> None:
    job_id = await answered(client, hand, database)
    live = await proof_of(client, job_id)

    async def forgotten() -> bool:
        return not await store.redis.exists(store.keys.job(job_id))

    await eventually(forgotten)
    archived = await proof_of(client, job_id)
    assert archived["delivered"] == {**live["delivered"], "kept_in": "archive"}
    assert {**archived, "delivered": None} == {**live, "delivered": None}

    assert (await client.delete(f"/v1/jobs/{job_id}")).status_code == 204
    erased = await proof_of(client, job_id)
    assert (erased["delivered"]["kept_in"], erased["delivered"]["choices"]) == (None, [])
    assert "no longer stored" in erased["notes"][0]
    assert erased["cost"] == live["cost"]


async def test_it_names_the_invoice_once_the_month_is_closed(
    client: httpx2.AsyncClient, hand: Hand, database: Database
) -> None:
    job_id = await answered(client, hand, database)
    open_ = await proof_of(client, job_id)
    assert open_["invoice"] is None
    assert open_["notes"] == ["the month is not closed yet, so there is no invoice"]

    month = month_of(datetime.now(UTC))
    later = datetime.fromisoformat(f"{next_month(month)}-02T00:00+00:00")
    await close_month(database, month, SELLER, now=later)

    proof = await proof_of(client, job_id)
    assert proof["invoice"]["number"] == f"INV-{month}-0001"
    assert proof["notes"] == []


async def test_a_failed_job_proves_that_nothing_is_charged(
    client: httpx2.AsyncClient, hand: Hand, store: JobStore, database: Database
) -> None:
    job_id = await submit(client)
    job = await hand.take()
    await hand.say(job, "half")
    await hand.finish(job, Status.FAILED)
    async with consuming(store, database):
        await until_consumed(store)

    proof = await proof_of(client, job_id)

    assert proof["charged"] == {"input": 0, "cached_input": 0, "output": 0}
    assert proof["cost"]["total"] == "0"
    assert proof["delivered"]["choices"][0]["output_tokens"] == 1
    assert "nothing is charged" in proof["notes"][0]


async def test_before_the_ledger_has_it_there_is_no_proof_yet(
    client: httpx2.AsyncClient, hand: Hand, database: Database
) -> None:
    job_id = await submit(client)
    path = f"/v1/usage/{job_id}/proof"
    assert (await client.get(path)).json()["code"] == "proof-not-ready"
    await hand.answer(await hand.take(), "a")
    assert (await client.get(path)).status_code == 409


async def test_foreign_and_unknown_jobs_look_alike(
    client: httpx2.AsyncClient,
    other: httpx2.AsyncClient,
    api: RunningApi,
    keys: Keys,
    hand: Hand,
    database: Database,
) -> None:
    job_id = await answered(client, hand, database)
    paths = [f"/v1/usage/{name}/proof" for name in (job_id, "job_" + "0" * 32, "x%00y")]
    answers = [await other.get(path) for path in paths]
    assert [answer.status_code for answer in answers] == [404] * 3
    assert {answer.json()["code"] for answer in answers} == {"job-not-found"}
    async with connect(api, keys.admin) as admin:
        assert (await proof_of(admin, job_id))["account"] == "acme"


async def test_a_cancelled_embedding_is_charged_and_proved_by_the_vectors_delivered(
    client: httpx2.AsyncClient, store: JobStore, database: Database
) -> None:
    await a_price(database, EMBEDDER)
    await ModelRegistry(store.redis, store.keys).register(
        ServedModel(EMBEDDER, 512, "by hand", 1_700_000_000, "embed")
    )
    hand = Hand(store, queue=EMBEDDER)
    vector = array("f", [1.0, -2.5]).tobytes()
    delta = {"embedding": base64.b64encode(vector).decode()}
    data = {"index": 0, "token_ids": [], "text": "", "delta": delta, "finish_reason": "stop"}
    ids = []
    for delivered in (1, 0):
        body = {"model": EMBEDDER, "input": ["a", "b"]}
        job_id = await submit(client, url="/v1/embeddings", body=body)
        job = await hand.take()
        events = [("delta", data)] * delivered
        await hand.write(job, *events, ending=Ending(Status.CANCELLED), vectors=delivered)
        ids.append(job_id)
    async with consuming(store, database):
        await until_consumed(store)

    paid, free = [await proof_of(client, job_id) for job_id in ids]

    assert paid["usage"]["vectors"] == 1
    assert paid["charged"] == {"input": 3, "cached_input": 2, "output": 0}
    (choice,) = paid["delivered"]["choices"]
    assert choice["vector_sha256"] == hashlib.sha256(vector).hexdigest()
    assert free["charged"] == {"input": 0, "cached_input": 0, "output": 0}
