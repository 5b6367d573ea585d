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

ACCOUNT = "acme"
RETRY_SECONDS = 0.2
LENGTHS = (8, 8, 8, 16, 16, 24, 32, 64, 160)
#: Jobs in a bunch that is submitted and not followed.
BUNCH = 12


@dataclass
class Wanted:
    """One accepted job, and what its client did and saw."""

    id: str
    body: dict[str, Any]
    may_end: frozenset[str]
    seqs: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    longest_gap: float = 0.0
    connections: int = 0
    followed: bool = False


class Load:
    """A number of clients, each doing one thing after the other."""

    def __init__(
        self, seed: int, ports: Callable[[], int], key: str, store: JobStore, hub: EventHub
    ) -> None:
        self.wanted: dict[str, Wanted] = {}
        self.problems: list[str] = []
        self.refusals = 0
        self._seed = seed
        self._ports = ports
        self._key = key
        self._store = store
        self._hub = hub
        self._stopping = False
        self._last_at = 0.0
        self._clients: list[asyncio.Task[None]] = []

    def start(self, clients: int) -> None:
        """Let this many clients begin."""
        self._clients = [asyncio.create_task(self._client(i)) for i in range(clients)]

    async def finish(self, seconds: float) -> list[str]:
        """Begin nothing new and wait for the clients; returns what went wrong with them."""
        self._stopping = True
        _, waiting = await asyncio.wait(self._clients, timeout=seconds)
        problems = [f"a client still waits after {seconds:.0f} s" for _ in waiting]
        for task in waiting:
            task.cancel()
        ended = await asyncio.gather(*self._clients, return_exceptions=True)
        return problems + [repr(e) for e in ended if isinstance(e, Exception)]

    async def _client(self, number: int) -> None:
        random = Random(f"client {self._seed} {number}")
        turn = 0
        while not self._stopping:
            turn += 1
            try:
                await self._do_one_thing(random, f"{self._seed}.{number}.{turn}")
            except (ServerError, PipelineError) as error:
                self.problems.append(f"client {number}: {error!r}")

    async def _do_one_thing(self, random: Random, name: str) -> None:
        choice = random.random()
        if choice < 0.5:
            await self._stream(random, name)
        elif choice < 0.65:
            await self._follow_in_process(random, name)
        elif choice < 0.75:
            await self._cancel(random, name)
        else:
            await asyncio.gather(*(self._submit(random, f"{name}.{i}") for i in range(BUNCH)))
            await asyncio.sleep(random.random())

    def _body(self, random: Random, name: str) -> dict[str, Any]:
        tokens = random.choice(LENGTHS)
        body = {"model": MODEL, "prompt": name, "max_tokens": tokens, "ignore_eos": True}
        if random.random() < 0.1:
            body["n"] = 2
        return body

    async def _submit(self, random: Random, name: str, *, cancelled: bool = False) -> Wanted:
        body = self._body(random, name)
        asked: dict[str, Any] = {"url": "/v1/completions", "body": body}
        ends = {"completed", *(["cancelled"] if cancelled else [])}
        job_id, refusals = await submit(self._ports, self._key, asked, name)
        self.refusals += refusals
        wanted = self.wanted[job_id] = Wanted(job_id, body, frozenset(ends))
        return wanted

    async def _stream(self, random: Random, name: str) -> None:
        wanted = await self._submit(random, name)
        seen = await follow(self._ports, self._key, Seen(wanted.id))
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
        if kind == "delta" and data["index"] == 0:
            wanted.token_ids += data["token_ids"]

    async def _follow_in_process(self, random: Random, name: str) -> None:
        """Use the store and the hub directly, as an API process of our own would."""
        body = self._body(random, name)
        ends = {"completed"}
        limits: dict[str, Any] = {}
        if random.random() < 0.2:
            limit = random.choice(["start_by", "deadline"])
            limits[limit] = int((time.time() + random.uniform(0.5, 10)) * 1000)
            ends.add("expired")
        job = generation(name, body["max_tokens"], watcher=self._hub.id, **limits)
        while True:
            try:
                await self._store.submit(job)
                break
            except StoreUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
            except InvalidJob:
                return  # its deadline passed before Redis came back
        wanted = Wanted(job.id, job.spec.body, frozenset(ends), followed=True)
        self.wanted[job.id] = wanted
        seen: list[tuple[Event, float]] = []
        while not seen or seen[-1][0].type != "finished":
            wanted.connections += 1
            try:
                after = seen[-1][0].seq if seen else 0
                async for batch in self._hub.follow(job.id, ACCOUNT, after):
                    seen += [(event, asyncio.get_running_loop().time()) for event in batch]
            except StoreUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
        for event, at in seen:
            self._saw(wanted, event.seq, event.type, event.decode(), at)

    async def _cancel(self, random: Random, name: str) -> None:
        wanted = await self._submit(random, name, cancelled=True)
        await asyncio.sleep(random.random() / 2)
        while True:
            with suppress(OSError, EOFError, TimeoutError):
                path = f"/v1/jobs/{wanted.id}/cancel"
                answer = await request(self._ports(), "POST", path, self._key)
                if answer.status in (200, 202):
                    return
                if answer.status not in (429, 503):
                    raise ServerError(answer)
            await asyncio.sleep(RETRY_SECONDS)


def fresh_seed() -> int:
    """Return a random seed."""
    return int(new_id("s")[-6:], 16)
