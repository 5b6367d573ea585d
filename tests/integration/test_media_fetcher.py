"""Media are fetched from allowed addresses only, within limits of time, size and number."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from core.errors import InvalidJob
from core.settings.media_fetch import MediaFetchSettings
from intake.media.errors import MediaBusy, MediaNotFetched
from intake.media.media_fetcher import NOT_FETCHED, MediaFetcher
from intake.media.remote_media import RemoteMedia, url_check
from tests.support.listening import ForbiddenServer
from tests.support.media_server import PIXEL, MediaServer, serving_media
from tests.support.waiting import eventually

LOOPBACK = "127.0.0.0/8"
FIELD = "messages[0].content[1]"
FETCHED = "data:image/png;base64," + base64.b64encode(PIXEL).decode()
CHARACTERS = 1_000


def settings(**values: Any) -> MediaFetchSettings:
    """Return settings that let the loopback be reached over http, unless said otherwise."""
    own = {"enabled": True, "allow_networks": LOOPBACK, "require_https": False, "ports": ""}
    return MediaFetchSettings(**{**own, **values})


class Names:
    """A resolver that knows these names; each has several answers in turn, the last for ever."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): list(given) for name, given in answers.items()}

    async def __call__(self, host: str, _port: int) -> Sequence[str]:
        if host not in self.answers:
            raise OSError(host)
        given = self.answers[host]
        return given.pop(0) if len(given) > 1 else given[0]


@asynccontextmanager
async def fetching(
    own: MediaFetchSettings | None = None, names: Names | None = None
) -> AsyncIterator[MediaFetcher]:
    fetcher = MediaFetcher(own or settings(), names or Names())
    try:
        yield fetcher
    finally:
        await fetcher.close()


def image(url: str, field: str = FIELD) -> RemoteMedia:
    return RemoteMedia(field, url, "image")


async def refusal(
    url: str, own: MediaFetchSettings | None = None, names: Names | None = None
) -> str:
    """Return the text of the error, without the field."""
    async with fetching(own, names) as fetcher:
        with pytest.raises(MediaNotFetched) as refused:
            await fetcher.fetch("acme", [image(url)], CHARACTERS)
    assert refused.value.param == FIELD
    assert "secret" not in refused.value.message
    return refused.value.message.removeprefix(f"{FIELD}: ")


async def test_an_image_becomes_a_data_url_and_each_url_is_fetched_once() -> None:
    names = Names(images_test=[["127.0.0.1"]])
    async with serving_media() as server, fetching(names=names) as fetcher:
        url = f"http://images.test:{server.port}/a.png?b=c"
        found = await fetcher.fetch("acme", [image(url), image(url, "other")], CHARACTERS)
        assert found == {url: FETCHED}
        (head,) = server.heads
    assert head[0] == "GET /a.png?b=c HTTP/1.1"
    assert f"Host: images.test:{server.port}" in head


@pytest.mark.parametrize(
    "answer",
    [
        *(["127.0.0.1"], ["10.1.2.3"], ["169.254.169.254"], ["::1"], ["fe80::1%eth0"]),
        *(["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["192.168.0.1"], []),
        ["93.184.216.34", "127.0.0.1"],  # one that is public does not make up for one that is not
    ],
)
async def test_a_name_that_leads_inside_is_never_connected_to(answer: list[str]) -> None:
    async with serving_media() as server:
        url = f"http://images.test:{server.port}/"
        text = await refusal(url, settings(allow_networks=""), Names(images_test=[answer]))
        assert server.connections == 0
    assert text == NOT_FETCHED


async def test_a_name_that_changes_its_answer_is_checked_again() -> None:
    names = Names(images_test=[["127.0.0.1"], ["10.0.0.1"]])
    async with serving_media() as server, fetching(names=names) as fetcher:
        url = f"http://images.test:{server.port}/"
        await fetcher.fetch("acme", [image(url)], CHARACTERS)
        with pytest.raises(MediaNotFetched, match=NOT_FETCHED):
            await fetcher.fetch("acme", [image(url)], CHARACTERS)
        assert server.connections == 1


async def test_a_client_cannot_tell_what_exists_inside() -> None:
    with ForbiddenServer() as listening:
        open_port = listening.url.rsplit(":", 1)[1].split("/")[0]
    own = settings(allow_networks="127.0.0.1/32")
    names = Names(inside_test=[["10.1.2.3"]], metadata_test=[["169.254.169.254"]])
    async with serving_media(status=404) as server:
        texts = {
            await refusal("http://unknown.test/", own, names),
            await refusal("http://inside.test/", own, names),
            await refusal("http://metadata.test/", own, names),
            await refusal(f"http://127.0.0.1:{open_port}/closed-by-now", own, names),
            await refusal(server.url, own, names),
        }
    assert texts == {NOT_FETCHED}


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("file:///etc/passwd", "an http or https URL"),
        ("ftp://example.com/a.png", "an http or https URL"),
        ("https://user:word@example.com/a.png", "without a user name and password"),
        ("http://example.com/a.png", "an https URL"),
        ("https://example.com:22/a.png", "port 22 is not allowed"),
        ("https://127.0.0.1/a.png", "the public internet"),
        ("https://[::1]/a.png", "the public internet"),
        ("https://[::ffff:10.0.0.1]/a.png", "the public internet"),
        ("https://169.254.169.254/latest", "the public internet"),
        ("https://10.0.0.1/a.png", "the public internet"),
        ("https://2130706433/a.png", "four decimal numbers"),
        ("https://localhost/a.png", "the public internet"),
        ("https://example.com/a.png#x", "without a fragment"),
        ("https://example.com/" + "a" * 3_000, "at most 2048 characters"),
        ("a.png", "an http or https URL"),
    ],
)
def test_urls_that_are_never_fetched_are_refused_before_a_connection(url: str, text: str) -> None:
    check = url_check(MediaFetchSettings(enabled=True))
    assert check is not None
    with pytest.raises(InvalidJob, match=text) as refused:
        check(FIELD, url)
    assert refused.value.param == FIELD
    assert url_check(MediaFetchSettings()) is None


def test_only_the_hosts_of_the_list_are_fetched_from() -> None:
    check = url_check(settings(hosts="images.example.com,*.Example.org"))
    assert check is not None
    for host in ("images.example.com", "IMAGES.example.com.", "a.example.org", "a.b.example.org"):
        check(FIELD, f"https://{host}/a.png")
    for host in ("example.com", "a.images.example.com", "example.org", "notexample.org"):
        with pytest.raises(InvalidJob, match="not one that media are fetched from"):
            check(FIELD, f"https://{host}/a.png")
    with pytest.raises(ValueError, match=r"expected names such as"):
        settings(hosts="*")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_to_an_allowed_place(status: int) -> None:
    async with serving_media() as last, serving_media(status=status) as first:
        first.headers = {"location": f"{last.url}#top"}
        async with fetching() as fetcher:
            assert await fetcher.fetch("acme", [image(first.url)], CHARACTERS) == {
                first.url: FETCHED
            }


@pytest.mark.parametrize("how", ["private", "name", "file", "host", "nowhere", "bad", "itself"])
async def test_a_redirect_leads_nowhere_else(how: str) -> None:
    async with serving_media(status=302, body=b"") as first:
        with ForbiddenServer() as inside:
            names = Names(first_test=[["127.0.0.1"]], inside_test=[["127.0.0.2"]])
            port = inside.url.rsplit(":", 1)[1]
            url = f"http://first.test:{first.port}/"
            location = {
                "private": f"http://127.0.0.2:{port}",
                "name": f"http://inside.test:{port}",
                "file": "file:///etc/passwd",
                "host": f"http://127.0.0.1:{port}",
                "nowhere": "",
                "bad": "http://[",
                "itself": url,
            }[how]
            first.headers = {"location": location} if location else {}
            own = settings(allow_networks="127.0.0.1/32", hosts="first.test,inside.test")
            assert await refusal(url, own, names) == NOT_FETCHED
            assert inside.untouched
        assert first.connections == (own.redirects + 1 if how in ("nowhere", "itself") else 1)


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 500])
async def test_only_a_complete_answer_counts(status: int) -> None:
    async with serving_media(status=status, body=b"") as server:
        assert await refusal(server.url) == NOT_FETCHED


@pytest.mark.parametrize(
    "raw", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 x\r\nContent-Le", b"\0" * 99]
)
async def test_a_server_that_does_not_speak_http_is_like_any_other(raw: bytes) -> None:
    async with serving_media(raw=raw) as server:
        assert await refusal(server.url) == NOT_FETCHED


async def test_an_answer_that_ends_early_is_no_image() -> None:
    async with serving_media(headers={"content-type": "image/png", "content-length": "99"}) as it:
        assert await refusal(it.url) == NOT_FETCHED


@pytest.mark.parametrize(
    "headers",
    [
        *({"content-type": "text/html"}, {"content-type": "video/mp4"}, {}),
        *({"content-type": "image/"}, {"content-type": "image/png,x"}),
        {"content-type": "image/png", "content-encoding": "gzip"},
    ],
)
async def test_what_is_no_image_is_refused(headers: dict[str, str]) -> None:
    async with serving_media(headers=headers) as server:
        assert "expected the URL of image data" in await refusal(server.url)


async def test_too_much_is_refused_by_its_length_or_by_the_first_byte_too_many() -> None:
    async with serving_media(body=b"x" * CHARACTERS) as server:
        assert "expected at most 732 bytes" in await refusal(server.url)
    async with serving_media(body=b"x" * 100, endless=True) as server:
        assert "expected at most 732 bytes" in await refusal(server.url)
    async with serving_media(body=b"x" * 732) as server, fetching() as fetcher:
        found = await fetcher.fetch("acme", [image(server.url)], CHARACTERS)
        assert len(found[server.url]) <= CHARACTERS


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async with serving_media() as server:
        server.answers.clear()
        assert await refusal(server.url, settings(connect_seconds=0.2, total_seconds=0.2)) == (
            NOT_FETCHED
        )


def start(fetcher: MediaFetcher, server: MediaServer, account: str) -> asyncio.Task[Any]:
    return asyncio.create_task(fetcher.fetch(account, [image(server.url)], CHARACTERS))


async def test_slow_fetches_of_one_account_hold_no_others() -> None:
    own = settings(concurrency=4, concurrency_per_account=2, total_seconds=60)
    async with serving_media() as slow, serving_media() as fast, fetching(own) as fetcher:
        slow.answers.clear()
        many = [start(fetcher, slow, "acme") for _ in range(20)]

        async def full() -> bool:
            return len(slow.heads) == 2

        await eventually(full)
        found = await fetcher.fetch("other", [image(fast.url)], CHARACTERS)
        assert found == {fast.url: FETCHED}
        assert slow.most_open == 2
        slow.answers.set()
        await asyncio.gather(*many)
        assert slow.connections == 20


async def test_a_fetch_that_finds_no_place_in_time_is_to_be_sent_again() -> None:
    own = settings(concurrency=2, concurrency_per_account=1, connect_seconds=0.1, total_seconds=0.1)
    async with serving_media() as server, fetching(own) as fetcher, fetcher.slots.take("acme"):
        with pytest.raises(MediaBusy) as refused:
            await fetcher.fetch("acme", [image(server.url)], CHARACTERS)
        assert refused.value.retry_after_seconds
        assert server.connections == 0


async def test_neither_logs_nor_errors_have_the_query() -> None:
    with structlog.testing.capture_logs() as logs:
        async with serving_media() as server:
            url = server.url
        await refusal(url)
    assert [entry["event"] for entry in logs] == ["media_unreachable"]
    assert "secret" not in str(logs)
