"""Files: stored whole or not at all, visible only to their account, with safe names."""

import asyncio
import hashlib
import resource
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from pydantic import SecretStr
from sqlalchemy import update

from batches.file_references import FILE_REFERENCES
from core.db.database import Database
from core.db.tables.base import now
from core.db.tables.files import FileRow
from core.settings.batches import FileSettings
from core.settings.tree import Settings
from files.errors import FilesUnavailable, ObjectMissing, StorageFull
from files.object_cleanup import FileSweeper
from files.object_store import ObjectStore
from files.repository import object_name
from tests.integration.api.conftest import FilesOnS3
from tests.support.waiting import eventually

LINE = b'{"custom_id":"a","method":"POST","url":"/v1/completions","body":{}}\n'
LIMIT = 3_000_000


@pytest.fixture(params=["folder", "s3"])
def file_settings(request: pytest.FixtureRequest, tmp_path: Path) -> FileSettings:
    """Each test of the store runs on both kinds."""
    if request.param == "folder":
        return FileSettings(url=SecretStr(f"file://{tmp_path}/kept"))
    return FileSettings(url=SecretStr(request.getfixturevalue("s3_server").url))


pytestmark = pytest.mark.settings(files__max_bytes=LIMIT, files__account_bytes=2 * LIMIT)


def stored(settings: Settings) -> list[str]:
    """Return every file in the folder, incomplete ones included."""
    folder = Path(settings.files.url.get_secret_value().removeprefix("file://"))
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def upload(
    client: httpx2.AsyncClient, content: bytes = LINE, name: str = "in.jsonl", **fields: str
) -> httpx2.Response:
    given = {"purpose": "batch", **fields}
    return await client.post("/v1/files", files={"file": (name, content)}, data=given)


# --- the store ------------------------------------------------------------------------


async def pieces(*sizes: int) -> AsyncIterator[bytes]:
    for number, size in enumerate(sizes):
        yield bytes([number]) * size


async def test_an_object_is_written_in_pieces_and_read_in_pieces(
    file_settings: FileSettings,
) -> None:
    objects = ObjectStore(file_settings)
    sizes = (1, 6_000_000, 0, 5_242_880, 17)
    await objects.put("files/a", pieces(*sizes))
    found = [piece async for piece in objects.pieces("files/a", sum(sizes), 1_000_000)]
    assert max(len(piece) for piece in found) == 1_000_000
    assert b"".join(found) == b"".join([piece async for piece in pieces(*sizes)])
    assert [(one.name, one.size) async for page in objects.listed("files") for one in page] == [
        ("files/a", sum(sizes))
    ]
    await objects.put_bytes("files/a", b"replaced")
    assert await objects.read("files/a", 2, 6) == b"plac"
    await objects.delete(["files/a", "files/never"])
    with pytest.raises(ObjectMissing):
        await objects.read("files/a", 0, 1)


@pytest.mark.parametrize("how", ["error", "cancel"])
async def test_what_is_broken_off_leaves_nothing(
    file_settings: FileSettings, tmp_path: Path, how: str
) -> None:
    objects = ObjectStore(file_settings)
    begun = asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 11_000_000
        yield b"y" * 11_000_000
        begun.set()
        if how == "error":
            raise KeyError("the client left")
        await asyncio.sleep(60)

    task = asyncio.create_task(objects.put(f"files/broken-{how}", broken()))
    await begun.wait()
    if how == "cancel":
        task.cancel()
    with pytest.raises(KeyError if how == "error" else asyncio.CancelledError):
        await task
    with pytest.raises(ObjectMissing):
        await objects.read(f"files/broken-{how}", 0, 1)
    if (tmp_path / "kept").exists():
        assert not [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 4 MB."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, most[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, most)


@pytest.mark.usefixtures("small_disk")
async def test_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    objects = ObjectStore(FileSettings(url=SecretStr(f"file://{tmp_path}/small")))
    with pytest.raises(StorageFull) as caught:
        await objects.put("files/big", pieces(6_000_000, 6_000_000, 6_000_000))
    assert caught.value.retry_after_seconds > 0
    assert not [path for path in (tmp_path / "small").rglob("*") if path.is_file()]
    await objects.put("files/small", pieces(100))
    assert await objects.read("files/small", 0, 9) == b"\0" * 9


async def test_a_store_that_does_not_answer_is_said_to_be_away() -> None:
    url = "s3://bucket?endpoint=http://127.0.0.1:9&region=us-east-1&key=k&secret=s"
    objects = ObjectStore(FileSettings(url=SecretStr(url)))
    with pytest.raises(FilesUnavailable) as caught:
        await objects.put("files/a", pieces(10))
    assert "127.0.0.1" not in str(caught.value), "nothing of where it is"


# --- the routes -----------------------------------------------------------------------


async def test_openais_client_uploads_lists_reads_and_deletes(ai: openai.AsyncOpenAI) -> None:
    made = await ai.files.create(file=("in.jsonl", LINE * 3), purpose="batch")
    assert (made.object, made.bytes, made.filename) == ("file", 3 * len(LINE), "in.jsonl")
    assert (made.purpose, made.status) == ("batch", "processed")
    assert made.expires_at == made.created_at + 30 * 86_400
    again = await ai.files.retrieve(made.id)
    assert again == made
    content = await ai.files.content(made.id)
    assert content.content == LINE * 3
    soon = await ai.files.create(
        file=("b.jsonl", LINE),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert soon.expires_at == soon.created_at + 3600
    assert [one.id async for one in ai.files.list()] == [soon.id, made.id]
    assert [one.id async for one in ai.files.list(order="asc", limit=1)] == [made.id, soon.id]
    assert [one.id async for one in ai.files.list(purpose="batch_output")] == []
    assert (await ai.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await ai.files.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        await ai.files.content(made.id)


class TestOnS3(FilesOnS3):
    @pytest.mark.settings(files__max_bytes=20_000_000, files__account_bytes=10_000_000_000)
    async def test_an_upload_to_s3_comes_back_the_same(self, ai: openai.AsyncOpenAI) -> None:
        content = LINE * 160_000  # several parts
        made = await ai.files.create(file=("big.jsonl", content), purpose="batch")
        assert made.bytes == len(content)
        assert (made.model_extra or {})["sha256"] == hashlib.sha256(content).hexdigest()
        assert (await ai.files.content(made.id)).content == content
        await ai.files.delete(made.id)


async def test_another_accounts_file_looks_unknown(
    client: httpx2.AsyncClient, other: httpx2.AsyncClient
) -> None:
    made = (await upload(client)).json()
    unknown = (await other.get("/v1/files/file_" + "0" * 32)).json()["error"]
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        answer = await other.request(method, f"/v1/files/{made['id']}{path}")
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == (unknown["type"], unknown["code"])
    assert (await other.get("/v1/files")).json()["data"] == []
    assert (await client.get(f"/v1/files/{made['id']}")).status_code == 200


NAMES = (
    ("../../etc/passwd.jsonl", "passwd.jsonl"),
    ("..\\..\\boot.jsonl", "boot.jsonl"),
    ("/abs/olute.jsonl", "olute.jsonl"),
    ("nul\0l.jsonl", "null.jsonl"),
    ("gpj.\u202elnosj.jsonl", "gpj.lnosj.jsonl"),
    ("a" * 400 + ".jsonl", "a" * 249 + ".jsonl"),
    ("naïve 日本.jsonl", "naïve 日本.jsonl"),
)


async def test_names_are_made_harmless(client: httpx2.AsyncClient, settings: Settings) -> None:
    for given, kept in NAMES:
        made = await send_form(client, [("purpose", None, b"batch"), ("file", given, LINE)])
        assert made.status_code == 200, made.text
        assert made.json()["filename"] == kept
        assert stored(settings) == [object_name(made.json()["id"])], "paths are ids alone"
        content = await client.get(f"/v1/files/{made.json()['id']}/content")
        assert content.content == LINE
        assert "\n" not in content.headers["content-disposition"]
        await client.delete(f"/v1/files/{made.json()['id']}")
        assert stored(settings) == []


async def send_form(
    client: httpx2.AsyncClient, parts: list[tuple[str, str | None, bytes]], end: bytes = b"--"
) -> httpx2.Response:
    """Post a form with names as raw as they are given."""
    body = b""
    for name, filename, content in parts:
        more = "" if filename is None else f'; filename="{filename}"'.replace("\\", "\\\\")
        body += f'--cut\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
        body += content + b"\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    return await client.post("/v1/files", content=body + b"--cut" + end + b"\r\n", headers=headers)


Parts = list[tuple[str, str | None, bytes]]
WRONG_FORMS: tuple[tuple[Parts, str], ...] = (
    ([("purpose", None, b"fine-tune"), ("file", "a", LINE)], "purpose"),
    ([("file", "a", LINE), ("purpose", None, b"assistants")], "purpose"),
    ([("file", "a", LINE)], "purpose"),
    ([("purpose", None, b"batch")], "file"),
    ([("purpose", None, b"batch"), ("file", None, b"text")], "file"),
    ([("purpose", None, b"batch"), ("file", "..", LINE)], "file"),
    ([("purpose", None, b"batch"), ("file", "a", b"")], "file"),
    ([("purpose", None, b"batch"), ("purpose", None, b"batch")], "purpose"),
    ([("purpose", None, b"batch"), ("file", "a", LINE), ("file", "b", LINE)], "file"),
    ([("purpose", None, b"x" * 5_000)], "purpose"),
    ([("colour", None, b"red")], "colour"),
    (
        [
            ("purpose", None, b"batch"),
            ("file", "a", LINE),
            ("expires_after[seconds]", None, b"9"),
        ],
        "expires_after.anchor",
    ),
    (
        [
            *(("purpose", None, b"batch"), ("file", "a", LINE)),
            *(("expires_after[anchor]", None, b"created_at"),),
            *(("expires_after[seconds]", None, b"9"),),
        ],
        "expires_after.seconds",
    ),
)


async def test_a_wrong_form_is_named_and_stores_nothing(
    client: httpx2.AsyncClient, settings: Settings
) -> None:
    for parts, param in WRONG_FORMS:
        answer = await send_form(client, parts)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == param, parts
        assert stored(settings) == []


async def test_a_body_that_is_no_form_is_refused(
    client: httpx2.AsyncClient, settings: Settings
) -> None:
    for headers, content in (
        ({"Content-Type": "application/json"}, b"{}"),
        ({"Content-Type": "multipart/form-data"}, b"x"),
        ({"Content-Type": "multipart/form-data; boundary=cut"}, b"no boundary at all"),
    ):
        answer = await client.post("/v1/files", content=content, headers=headers)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "malformed_body"
    whole = [("purpose", None, b"batch"), ("file", "a", LINE)]
    assert (await send_form(client, whole, end=b"")).status_code == 400, "it breaks off"
    assert stored(settings) == []


@pytest.mark.parametrize("announced", [True, False])
async def test_a_file_over_the_limit_is_refused_while_it_arrives(
    client: httpx2.AsyncClient, settings: Settings, announced: bool
) -> None:
    head = b'--cut\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    head += b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    tail = b"\r\n--cut--\r\n"

    async def body() -> AsyncIterator[bytes]:
        yield head
        for _ in range(4):
            yield b"x" * (LIMIT // 3)
        yield tail

    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    content: Any = head + b"x" * (LIMIT + 1) + tail if announced else body()
    answer = await client.post("/v1/files", content=content, headers=headers)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"
    assert stored(settings) == []


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(
    client: httpx2.AsyncClient, settings: Settings
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        yield b"x" * 1_000_000
        raise KeyError("gone")

    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    with pytest.raises(KeyError):
        await client.post("/v1/files", content=body(), headers=headers)

    async def nothing() -> bool:
        return stored(settings) == []

    await eventually(nothing)
    assert (await upload(client)).status_code == 200


async def test_an_account_keeps_at_most_its_quota(
    client: httpx2.AsyncClient, other: httpx2.AsyncClient
) -> None:
    big = LINE * (LIMIT // len(LINE))
    first = (await upload(client, big)).json()
    assert (await upload(client, big)).status_code == 200
    assert (await upload(client, big)).status_code == 200
    refused = await upload(client, LINE)
    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == "file_quota_reached"
    assert (await upload(other, LINE)).status_code == 200
    await client.delete(f"/v1/files/{first['id']}")
    assert (await upload(client, LINE)).status_code == 200


async def test_an_expired_file_is_not_seen_and_then_deleted(
    client: httpx2.AsyncClient, settings: Settings
) -> None:
    expired, kept = [(await upload(client)).json()["id"] for _ in range(2)]
    database = Database(settings.database, "test")
    past = now() - timedelta(seconds=1)
    async with database.write() as connection:
        change = update(FileRow).where(FileRow.id == expired).values(expires_at=past)
        await connection.execute(change)
    assert (await client.get(f"/v1/files/{expired}")).status_code == 404
    assert [one["id"] for one in (await client.get("/v1/files")).json()["data"]] == [kept]
    sweeper = FileSweeper(database, ObjectStore(settings.files), FILE_REFERENCES)
    sweeping = asyncio.create_task(sweeper.run(settings.files))

    async def deleted() -> bool:
        return stored(settings) == [object_name(kept)]

    await eventually(deleted)
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
    await database.close()


async def test_bytes_without_a_row_are_swept_and_others_are_not(
    client: httpx2.AsyncClient, settings: Settings
) -> None:
    made = (await upload(client)).json()
    objects = ObjectStore(settings.files)
    await objects.put_bytes("files/file_" + "1" * 32, b"without a row")
    aside = Path(settings.files.url.get_secret_value().removeprefix("file://")) / "files/file_2#1"
    aside.write_bytes(b"its writer was killed")
    database = Database(settings.database, "test")
    sweeper = FileSweeper(database, objects, FILE_REFERENCES)
    assert await sweeper.delete_orphans(3_600) == 0, "a request may be about to add its row"
    assert len(stored(settings)) == 3
    assert await sweeper.delete_orphans(-1) == 1
    await database.close()
    assert stored(settings) == [object_name(made["id"])]
    assert (await client.get(f"/v1/files/{made['id']}/content")).content == LINE


async def test_lists_go_on_after_a_cursor_and_refuse_a_wrong_one(
    client: httpx2.AsyncClient,
) -> None:
    ids = [(await upload(client)).json()["id"] for _ in range(5)]
    page = (await client.get("/v1/files", params={"limit": 2})).json()
    assert [one["id"] for one in page["data"]] == [ids[4], ids[3]]
    assert page["has_more"]
    rest = (await client.get("/v1/files", params={"after": page["last_id"]})).json()
    assert [one["id"] for one in rest["data"]] == [ids[2], ids[1], ids[0]]
    assert not rest["has_more"]
    wrong = await client.get("/v1/files", params={"after": "job_1"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "after")
    for params in ({"limit": 0}, {"order": "up"}, {"purpose": "x y"}):
        assert (await client.get("/v1/files", params=params)).status_code == 400
