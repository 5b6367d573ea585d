"""A real API in a thread on a real Redis, real clients, and a worker that the test plays."""

import asyncio
import contextlib
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest

from accounts.caller import Role
from api.uvicorn_server import ApiServer, create_server
from core.db.database import Database
from core.errors import PipelineError
from core.settings.billing import DatabaseSettings
from core.settings.tree import Settings
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.transitions import Appended, ClaimedJob, Ending, LogAppend
from tests.conftest import settings_for
from tests.support.keys import make_several, sqlite_in, while_sql_was_there
from tests.support.machine import is_over
from tests.support.object_store import S3Server
from tests.support.redis_server import RedisServer
from tests.support.settings_marker import Groups, merged
from tests.support.sse import SseEvent, parse_sse
from tests.support.waiting import eventually

MODEL = "m"
CONTEXT = 4096


@dataclass(frozen=True)
class Keys:
    """One API key per account."""

    acme: str
    other: str
    admin: str


class RunningApi:
    """The server of one API process, in a thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.server: ApiServer = create_server(settings)
        self._thread = threading.Thread(target=self.server.run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        began = time.monotonic()
        while not self.server.started:
            assert self._thread.is_alive(), "the API ended while starting"
            assert not is_over(began, 20), "the API did not start"
            time.sleep(0.01)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def begin_stop(self) -> None:
        self.server.should_exit = True

    def stop(self) -> None:
        self.begin_stop()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the API did not stop"


@dataclass
class Hand:
    """The test as a worker: claims jobs and writes their events."""

    store: JobStore
    name: str = "hand"
    queue: str = MODEL
    weights: str = ""
    _after: dict[str, int] = field(default_factory=dict)
    _tokens: dict[str, int] = field(default_factory=dict)

    async def take(self) -> ClaimedJob:
        """Claim the next job, when there is one."""

        async def claim() -> ClaimedJob | None:
            found = await self.store.claim(self.queue, self.name, 1, self.weights)
            return found[0] if found else None

        job = await eventually(claim)
        assert job is not None
        self._after[job.id], self._tokens[job.id] = job.seq, job.output_tokens
        return job

    async def write(
        self,
        job: ClaimedJob,
        *events: tuple[str, dict[str, Any]],
        ending: Ending | None = None,
        vectors: int = 0,
    ) -> Appended:
        """Append events as one engine step."""
        self._tokens[job.id] += sum(len(data.get("token_ids", ())) for _, data in events)
        step = LogAppend(
            id=job.id,
            fence=job.fence,
            after=self._after[job.id],
            events=[(kind, orjson.dumps(data)) for kind, data in events],
            input_tokens=5,
            cached_input_tokens=2,
            output_tokens=self._tokens[job.id],
            ending=ending,
            vectors=vectors,
        )
        answer = (await self.store.append([step]))[0]
        self._after[job.id] += len(events)
        return answer

    async def say(self, job: ClaimedJob, text: str, **more: Any) -> Appended:
        """Append one delta of one token."""
        return await self.write(job, ("delta", says(text, **more)))

    async def finish(
        self, job: ClaimedJob, status: Status = Status.COMPLETED, error: PipelineError | None = None
    ) -> Appended:
        """End the job."""
        return await self.write(job, ending=Ending(status, error))

    async def answer(self, job: ClaimedJob, *words: str) -> None:
        """Say every word in a step of its own, then finish."""
        for word in words:
            await self.say(job, word)
        await self.write(
            job,
            ("delta", {"index": 0, "token_ids": [], "text": "", "finish_reason": "stop"}),
            ending=Ending(Status.COMPLETED),
        )

    async def finish_next(
        self, status: Status = Status.COMPLETED, error: PipelineError | None = None
    ) -> Appended:
        """Take the next job and end it without output."""
        return await self.finish(await self.take(), status, error)

    async def fail_after(self, word: str, error: PipelineError) -> None:
        """Take the next job, say one word, and fail."""
        job = await self.take()
        await self.say(job, word)
        await self.finish(job, Status.FAILED, error)


def says(text: str, index: int = 0, **more: Any) -> dict[str, Any]:
    """Return a delta's data."""
    return {"index": index, "token_ids": [7], "text": text, **more}


@contextlib.asynccontextmanager
async def answering(hand: Hand, *words: str, jobs: int = 1) -> AsyncIterator[list[ClaimedJob]]:
    """Answer the next jobs with the same words while the body of the `with` runs."""
    taken: list[ClaimedJob] = []

    async def work() -> None:
        for _ in range(jobs):
            taken.append(await hand.take())
            await hand.answer(taken[-1], *words)

    task = asyncio.create_task(work())
    try:
        yield taken
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A SQLite file with all tables; `on_both_databases` replaces it."""
    return f"sqlite+aiosqlite:///{shutil.copy(sqlite_template, tmp_path / 'penstock.db')}"


def on_both_databases(database_settings: DatabaseSettings) -> str:
    """Return SQLite and PostgreSQL in turn: for modules that run on both, as a fixture."""
    return database_settings.url.get_secret_value()


@pytest.fixture
def files_url(tmp_path: Path) -> str:
    """A folder; classes and modules replace it."""
    return f"file://{tmp_path}/files"


class FilesOnS3:
    """Tests of a class that store files in a bucket."""

    @pytest.fixture
    def files_url(self, s3_server: S3Server) -> str:
        return s3_server.url


@pytest.fixture
def settings(
    redis_server: RedisServer, database_url: str, files_url: str, marked_settings: Groups
) -> Settings:
    base = {
        "api": {"port": 0},
        "database": {"url": database_url},
        "files": {"url": files_url},
    }
    return settings_for(redis_server, **merged(base, marked_settings))


def make_keys(settings: Settings) -> Keys:
    """Make one key per account."""
    admin = {"role": Role.ADMIN}
    return Keys(
        *make_several(settings, ("acme", admin), ("other", admin), ("root", {"admin": True}))
    )


@pytest.fixture
def keys(settings: Settings) -> Keys:
    return make_keys(settings)


def one_api(settings: Settings, keys: Keys) -> Iterator[RunningApi]:
    """Run one server; modules whose tests do not disturb each other share it, as a fixture."""
    del keys
    running = RunningApi(settings)
    running.start()
    yield running
    running.stop()


@dataclass(frozen=True, slots=True)
class SharedApi:
    """One server with default settings for all tests that clean up after themselves."""

    keys: Keys
    running: RunningApi


@pytest.fixture(scope="session")
def shared_api(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedApi]:
    directory = tmp_path_factory.mktemp("shared")
    settings = settings_for(
        redis_server,
        api={"port": 0},
        database=sqlite_in(directory),
        files={"url": f"file://{directory}/files"},
    )
    keys = make_keys(settings)
    running = RunningApi(settings)
    running.start()
    yield SharedApi(keys, running)
    running.stop()


class OnSharedApi:
    """Tests of a class that share one API with all such classes; they must clean up."""

    @pytest.fixture
    def settings(self, shared_api: SharedApi) -> Settings:
        return shared_api.running.settings

    @pytest.fixture
    def keys(self, shared_api: SharedApi) -> Keys:
        return shared_api.keys

    @pytest.fixture
    def api(self, shared_api: SharedApi, store: JobStore) -> RunningApi:
        del store  # it registers the model
        return shared_api.running


@pytest.mark.settings(
    database__url="postgresql+psycopg://nobody@/none?host=/nonexistent",
    database__timeout_seconds=1,
)
class WithoutDatabase:
    """Tests of a class whose API has no SQL; their keys were made before the outage."""

    @pytest.fixture
    def keys(self, settings: Settings, tmp_path: Path) -> Keys:
        return make_keys(while_sql_was_there(settings, tmp_path))


@pytest.fixture
async def store(store: JobStore) -> JobStore:
    """The store, with one model registered."""
    await ModelRegistry(store.redis, store.keys).register(
        ServedModel(MODEL, CONTEXT, "by hand", 1_700_000_000)
    )
    return store


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """The API's database."""
    opened = Database(settings.database, "test")
    yield opened
    await opened.close()


@pytest.fixture
def hand(store: JobStore) -> Hand:
    return Hand(store)


@pytest.fixture
def start_api(
    settings: Settings, keys: Keys, store: JobStore
) -> Iterator[Callable[[], RunningApi]]:
    """Start API servers; all are stopped at the end."""
    running: list[RunningApi] = []

    def start() -> RunningApi:
        api = RunningApi(settings)
        running.append(api)
        api.start()
        return api

    yield start
    for api in running:
        api.begin_stop()
    for api in running:
        api.stop()


@pytest.fixture
def api(start_api: Callable[[], RunningApi]) -> RunningApi:
    return start_api()


def services(api: RunningApi) -> Any:
    """Return the services that an API's routes use."""
    app: Any = api.server.config.app
    return app.state.services


async def refreshed(api: RunningApi) -> None:
    """Make the API reload prices and budgets, on its own loop."""
    for reading in (services(api).cost_cache.refresh(), services(api).budget_guard.refresh()):
        await on_loop(api, reading)


async def on_loop(api: RunningApi, work: Coroutine[Any, Any, None]) -> None:
    """Run something on the API's own loop."""
    loop = services(api).hub._task.get_loop()
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


def connect(api: RunningApi, key: str) -> httpx2.AsyncClient:
    """Return a client of one account."""
    return httpx2.AsyncClient(
        base_url=api.url, headers={"Authorization": f"Bearer {key}"}, timeout=20
    )


@pytest.fixture
async def client(api: RunningApi, keys: Keys) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(api, keys.acme) as opened:
        yield opened


@pytest.fixture
async def other(api: RunningApi, keys: Keys) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(api, keys.other) as opened:
        yield opened


@pytest.fixture
def admin(client: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """The same client, in tests where it matters that it is an admin of acme."""
    return client


@pytest.fixture
async def operator(api: RunningApi, keys: Keys) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with the operator's key, which sees all accounts."""
    async with connect(api, keys.admin) as opened:
        yield opened


@pytest.fixture
async def ai(api: RunningApi, keys: Keys) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own client, without its retries."""
    async with openai.AsyncOpenAI(
        base_url=f"{api.url}/v1", api_key=keys.acme, max_retries=0, timeout=20
    ) as opened:
        yield opened


def chat_job(**fields: Any) -> dict[str, Any]:
    """Return the body of a small submission."""
    return {"url": "/v1/chat/completions", "body": chat_body(), **fields}


def chat_body(**fields: Any) -> dict[str, Any]:
    """Return a small conversation."""
    return {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **fields}


async def submit(client: httpx2.AsyncClient, **fields: Any) -> str:
    """Submit a job and return its id."""
    response = await client.post("/v1/jobs", json=chat_job(**fields))
    assert response.status_code == 202, response.text
    found: str = response.json()["id"]
    return found


async def status_of(client: httpx2.AsyncClient, job_id: str) -> str:
    """Return a job's status as clients see it."""
    found: str = (await client.get(f"/v1/jobs/{job_id}")).json()["status"]
    return found


async def until_status(client: httpx2.AsyncClient, job_id: str, status: str) -> None:
    """Wait until a job has a status."""

    async def reached() -> bool:
        return await status_of(client, job_id) == status

    await eventually(reached)


async def read_stream(
    client: httpx2.AsyncClient, path: str, method: str = "GET", **options: Any
) -> tuple[httpx2.Response, list[SseEvent]]:
    """Read a stream to its end."""
    async with client.stream(method, path, **options) as response:
        text = (await response.aread()).decode()
    return response, parse_sse(text)
