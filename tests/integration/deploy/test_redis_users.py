"""Each kind of process works with its own user of Redis, and that user can do no more."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from core.runtime.child_process import ChildProcess, Program, free_port
from core.settings.tree import Settings
from tests.support.compose import read
from tests.support.keys import make_key, sqlite_in
from tests.support.manifests import ROOT
from tests.support.processes import Pipeline, connect
from tests.support.redis_server import binary
from tests.support.simulated import MODEL
from tests.support.waiting import eventually

KINDS = ("api", "control", "deliverer", "feeder", "ledger", "worker")
#: Who may see the copies of keys and people.
SEE_CALLERS = {"api", "feeder"}


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The users that compose gives Redis, with the passwords of the documented command."""
    env_file = tmp_path_factory.mktemp("compose") / ".env"
    command = [sys.executable, str(ROOT / "scripts/compose_env.py"), str(env_file)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    text: str = read(env_file)["configs"]["redis-users"]["content"]
    return text


class Server:
    """A Redis with these users, and the operator's password."""

    def __init__(self, kind: str, directory: Path, content: str) -> None:
        self.port = free_port()
        self.passwords = dict(re.findall(r"^user (\S+) on >(\S+)", content, re.MULTILINE))
        file = directory / "users.conf"
        file.write_text(content)
        command = [binary(kind), str(file), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--requirepass", "operators", "--dir", str(directory)]
        self._process = ChildProcess(Program("redis", command, directory / "redis.log"))

    def url(self, user: str) -> str:
        return f"redis://{user}:{self.passwords[user]}@127.0.0.1:{self.port}/0"

    def client(self, user: str) -> Any:
        """Return a client of a user; typed loosely, as the answers of redis-py are."""
        return redis.Redis.from_url(self.url(user), protocol=2)

    def operator(self) -> Any:
        return redis.Redis(port=self.port, password="operators", protocol=2)

    def _answers(self) -> bool:
        try:
            return bool(self.operator().ping())
        except redis.ConnectionError:
            return False

    def start(self) -> None:
        self._process.begin()
        self._process.wait_until(self._answers, 10)

    def stop(self) -> None:
        self._process.stop()


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest, tmp_path: Path, content: str) -> Iterator[Server]:
    """Each server of the two that are supported."""
    running = Server(request.param, tmp_path, content)
    running.start()
    yield running
    running.stop()


def test_there_is_a_user_for_each_kind_of_process_and_no_other(server: Server) -> None:
    assert set(server.passwords) == set(KINDS)
    assert len(set(server.passwords.values())) == len(KINDS), "each has a password of its own"


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_api_and_the_feeder_see_who_may_do_what(server: Server, kind: str) -> None:
    client = server.client(kind)

    def allowed(*command: Any) -> bool:
        try:
            client.execute_command(*command)
        except redis.exceptions.NoPermissionError:
            return False
        return True

    for key in ("penstock:callers", "penstock:signin:x"):
        assert allowed("HGETALL", key) == (kind in SEE_CALLERS), key
        assert allowed("DEL", key) == (kind in SEE_CALLERS), key
    for command in (("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("ACL", "LIST")):
        assert not allowed(*command), command
    assert not allowed("GET", "another-application")
    script = "return redis.call('HGETALL', 'penstock:callers')"
    assert allowed("EVAL", "return 1", 0)
    if kind not in SEE_CALLERS:
        with pytest.raises(redis.ResponseError, match=r"can't access|permission"):
            client.eval(script, 0)


def test_workers_may_touch_every_key_of_the_job_scripts(server: Server) -> None:
    """Also those of rare cases: a key that is missing here would stop a job that needs it."""
    scripts = "".join(path.read_text() for path in (ROOT / "jobs/store/scripts").glob("*.lua"))
    names = set(re.findall(r"P \.\. '(:[a-z:-]+)'", scripts))
    assert ":outbox" in names
    for kind in ("worker", "control", "ledger"):
        client = server.client(kind)
        for name in names:
            key = f"penstock{name}x" if name.endswith(":") else f"penstock{name}"
            client.exists(key)


async def test_the_real_processes_need_nothing_else(server: Server, tmp_path: Path) -> None:
    """Jobs, a cancel, a batch, tokens: Redis refuses no command of any process."""

    def settings(user: str) -> Settings:
        return Settings(
            _env_file=None,
            redis={"url": server.url(user)},
            engine={"kind": "simulated", "served_name": MODEL, "slots": 8},
            retention={"start": "archive"},
            database=sqlite_in(tmp_path),
            files={"url": f"file://{tmp_path}/files"},
            auth={"jwt_secret": "0123456789abcdef0123456789abcdef"},
        )

    key = make_key(settings("api"))
    parts = {}
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        parts[kind] = Pipeline(settings(kind), tmp_path / kind)
    try:
        parts["control"].control()
        parts["ledger"].ledger()
        parts["feeder"].feeder()
        parts["deliverer"].begin_webhooks()
        worker = parts["worker"].begin_worker()
        api = parts["api"].api()
        await asyncio.to_thread(worker.wait_until_ready)
        async with connect(api, key) as http:
            body = {"model": MODEL, "prompt": "hi", "max_tokens": 8}
            assert (await http.post("/v1/completions", json=body)).status_code == 200
            tokens = await http.post("/tokenize", json={"model": MODEL, "prompt": "hi"})
            assert tokens.json()["count"] == 1
            long = {**body, "max_tokens": 20_000, "ignore_eos": True}
            job = {"url": "/v1/completions", "body": long}
            accepted = await http.post("/v1/jobs", json=job, headers={"Idempotency-Key": "1"})
            place = f"/v1/jobs/{accepted.json()['id']}"

            async def is_now(status: str) -> bool:
                return bool((await http.get(place)).json()["status"] == status)

            await eventually(lambda: is_now("in_progress"))
            assert (await http.post(f"{place}/cancel")).status_code == 202
            await eventually(lambda: is_now("cancelled"))
            line = {"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": body}
            file = {"file": ("lines.jsonl", json.dumps(line).encode())}
            kept = await http.post("/v1/files", files=file, data={"purpose": "batch"})
            asked = {
                "input_file_id": kept.json()["id"],
                "endpoint": "/v1/completions",
                "completion_window": "24h",
            }
            batch = (await http.post("/v1/batches", json=asked)).json()

            async def completed() -> bool:
                found = (await http.get(f"/v1/batches/{batch['id']}")).json()
                return bool(found["status"] == "completed")

            await eventually(completed, timeout=30)

        async def recorded() -> bool:
            return bool(server.operator().xlen("penstock:outbox") == 0)

        await eventually(recorded, timeout=20)
    finally:
        for part in parts.values():
            part.stop()
    refused = [(one["username"], one["object"]) for one in server.operator().acl_log()]
    assert not refused
