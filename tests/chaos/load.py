"""Clients of a chaos run: they submit, follow, reconnect and cancel, and record what they saw."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from core.errors import InvalidJob, PipelineError, StoreUnavailable
from core.ids import new_id
from jobs.events import Event
from jobs.store.job_store import JobStore
from jobs.stream.event_hub import EventHub
from tests.support.http_client import Seen, ServerError, follow, request, submit
from tests.support.simulated import MODEL, generation

#: The last two send the poison requests of the plan.
ACCOUNTS = tuple(f"account-{number}" for number in range(12))
BAD = 2
#: How a poison job may end: it stopped its workers, or its engine failed it.
POISON_ENDS = {"error": "engine-error"}
RETRY_SECONDS = 0.2
LENGTHS = (8, 8, 8, 16, 16, 24, 32, 64, 160)
#: Jobs in a bunch that is submitted and not followed.
BUNCH = 12


@dataclass
class Wanted:
    """One accepted job, and what its client did and saw."""

    id: str
    account: str
    body: dict[str, Any]
    may_end: frozenset[str]
    asked_at: float
    error: str = ""  # the code that it must fail with
    first_token_at: float | None = None
    seqs: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    longest_gap: float = 0.0
    connections: int = 0
    followed: bool = False


class Load:
    """A number of clients, each doing one thing after the other."""

    def __init__(
        self,
        seed: int,
        ports: Callable[[], int],
        keys: dict[str, str],
        store: JobStore,
        hub: EventHub,
    ) -> None:
        self.wanted: dict[str, Wanted] = {}
        self.problems: list[str] = []
        self.refusals = 0
        self._seed = seed
        self._ports = ports
        self._keys = keys
        self._store = store
        self._hub = hub
        self._stopping = False
        self._last_at = 0.0
        self._poison: list[asyncio.Task[Wanted]] = []
        self._clients: list[asyncio.Task[None]] = []

    def start(self, clients: int) -> None:
        """Let this many clients begin."""
        self._clients = [asyncio.create_task(self._client(i)) for i in range(clients)]

    async def finish(self, seconds: float) -> list[str]:
        """Begin nothing new and wait for the clients; returns what went wrong with them."""
        self._stopping = True
        self._clients += self._poison
        _, waiting = await asyncio.wait(self._clients, timeout=seconds)
        problems = [f"a client still waits after {seconds:.0f} s" for _ in waiting]
        for task in waiting:
            task.cancel()
        ended = await asyncio.gather(*self._clients, return_exceptions=True)
        return problems + [repr(e) for e in ended if isinstance(e, Exception)]

    def poison(self, kind: str, victim: int) -> None:
        """Let a bad account send a request with a fault of the engine in it."""
        account = ACCOUNTS[-1 - victim % BAD]
        name = f"[[fault:{kind}=0]] {self._seed}.poison.{len(self._poison)}"
        body = {"model": MODEL, "prompt": name, "max_tokens": 16, "ignore_eos": True}
        error = POISON_ENDS.get(kind, "poison-job")
        task = self._send(account, name.partition(" ")[2], body, {"failed"}, error)
        self._poison.append(asyncio.create_task(task))

    async def _client(self, number: int) -> None:
        account = ACCOUNTS[number % len(ACCOUNTS)]
        random = Random(f"client {self._seed} {number}")
        turn = 0
        while not self._stopping:
            turn += 1
            try:
                await self._do_one_thing(random, account, f"{self._seed}.{number}.{turn}")
            except (ServerError, PipelineError) as error:
                self.problems.append(f"client {number}: {error!r}")

    async def _do_one_thing(self, random: Random, account: str, name: str) -> None:
        choice = random.random()
        if choice < 0.5:
            await self._stream(random, account, name)
        elif choice < 0.65:
            await self._follow_in_process(random, account, name)
        elif choice < 0.75:
            await self._cancel(random, account, name)
        else:
            bunch = (self._submit(random, account, f"{name}.{i}") for i in range(BUNCH))
            await asyncio.gather(*bunch)
            await asyncio.sleep(random.random())

    def _body(self, random: Random, name: str) -> dict[str, Any]:
        tokens = random.choice(LENGTHS)
        body = {"model": MODEL, "prompt": name, "max_tokens": tokens, "ignore_eos": True}
        if random.random() < 0.1:
            body["n"] = 2
        return body

    async def _submit(
        self, random: Random, account: str, name: str, *, cancelled: bool = False
    ) -> Wanted:
        ends = {"completed", *(["cancelled"] if cancelled else [])}
        return await self._send(account, name, self._body(random, name), ends)

    async def _send(
        self, account: str, name: str, body: dict[str, Any], ends: set[str], error: str = ""
    ) -> Wanted:
        asked: dict[str, Any] = {"url": "/v1/completions", "body": body}
        job_id, refusals = await submit(self._ports, self._keys[account], asked, name)
        self.refusals += refusals
        now = asyncio.get_running_loop().time()
        wanted = Wanted(job_id, account, body, frozenset(ends), now, error)
        self.wanted[job_id] = wanted
        return wanted

    async def _stream(self, random: Random, account: str, name: str) -> None:
        wanted = await self._submit(random, account, name)
        seen = await follow(self._ports, self._keys[account], Seen(wanted.id))
        self.refusals += seen.refusals
        wanted.followed = True
        wanted.connections = seen.connections
        for event, at in zip(seen.events, seen.times, strict=True):
            self._saw(wanted, int(event.id), event.event, event.json, at)

    def _saw(self, wanted: Wanted, seq: int, kind: str, data: dict[str, Any], at: float) -> None:
        if kind == "restarted":
            wanted.token_ids.clear()
        if wanted.seqs:
            wanted.longest_gap = max(wanted.longest_gap, at - self._last_at)
        self._last_at = at
        wanted.seqs.append(seq)
        if kind == "delta" and wanted.first_token_at is None:
            wanted.first_token_at = at
        if kind == "delta" and data["index"] == 0:
            wanted.token_ids += data["token_ids"]

    async def _follow_in_process(self, random: Random, account: str, name: str) -> None:
        """Use the store and the hub directly, as an API process of our own would."""
        body = self._body(random, name)
        ends = {"completed"}
        limits: dict[str, Any] = {}
        if random.random() < 0.2:
            limit = random.choice(["start_by", "deadline"])
            limits[limit] = int((time.time() + random.uniform(0.5, 10)) * 1000)
            ends.add("expired")
        job = generation(name, body["max_tokens"], account, watcher=self._hub.id, **limits)
        while True:
            try:
                await self._store.submit(job)
                break
            except StoreUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
            except InvalidJob:
                return  # its deadline passed before Redis came back
        now = asyncio.get_running_loop().time()
        wanted = Wanted(job.id, account, job.spec.body, frozenset(ends), now, followed=True)
        self.wanted[job.id] = wanted
        seen: list[tuple[Event, float]] = []
        while not seen or seen[-1][0].type != "finished":
            wanted.connections += 1
            try:
                after = seen[-1][0].seq if seen else 0
                async for batch in self._hub.follow(job.id, account, after):
                    seen += [(event, asyncio.get_running_loop().time()) for event in batch]
            except StoreUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
        for event, at in seen:
            self._saw(wanted, event.seq, event.type, event.decode(), at)

    async def _cancel(self, random: Random, account: str, name: str) -> None:
        wanted = await self._submit(random, account, name, cancelled=True)
        await asyncio.sleep(random.random() / 2)
        while True:
            with suppress(OSError, EOFError, TimeoutError):
                path = f"/v1/jobs/{wanted.id}/cancel"
                answer = await request(self._ports(), "POST", path, self._keys[account])
                if answer.status in (200, 202):
                    return
                if answer.status not in (429, 503):
                    raise ServerError(answer)
            await asyncio.sleep(RETRY_SECONDS)


def fresh_seed() -> int:
    """Return a random seed."""
    return int(new_id("s")[-6:], 16)
