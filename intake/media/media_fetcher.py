"""Fetches the media that a request names by URL, within limits of time, size and number.

Invariant: a connection goes only to an address that was checked, and each redirect is checked like
the first URL. What a client is told does not depend on what exists inside: it is one text for all
that was not reached. Neither logs nor errors have a URL, because it may hold a signature.
"""

import asyncio
import base64
import re
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import NamedTuple
from urllib.parse import urldefrag, urljoin

import httpcore2
import structlog

from core import metrics
from core.errors import ClientError
from core.settings.media_fetch import MediaFetchSettings
from intake.media.errors import MediaBusy, MediaNotFetched
from intake.media.fetch_slots import FetchSlots
from intake.media.remote_media import RemoteMedia, media_target
from webhooks.dns_resolver import Resolve, Resolver
from webhooks.errors import InvalidWebhook, Undeliverable
from webhooks.pinned_backend import PinnedBackend, tls_context
from webhooks.url_rules import WebhookTarget

log = structlog.get_logger()

AGENT = "Penstock-Media/1"
REDIRECTS = frozenset({301, 302, 303, 307, 308})
RETRY_AFTER_SECONDS = 5.0
NOT_FETCHED = "the URL could not be fetched"
#: Type and subtype, without parameters; what `jobs.media` accepts in a `data:` URL.
MEDIA_TYPE = re.compile(r"(image|video|audio)/[\w.+-]{1,64}", re.ASCII)


class FetchRefused(Exception):
    """A fetch that failed: the metric's outcome, and the text for the client."""

    def __init__(self, outcome: str, shown: str = NOT_FETCHED) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.shown = shown


class FetchLimits(NamedTuple):
    """When fetching must have ended, on the event loop's clock, and the longest `data:` URL."""

    deadline: float
    url_characters: int


class MediaFetcher:
    """Fetches media for the requests of one process."""

    def __init__(self, settings: MediaFetchSettings, resolve: Resolve | None = None) -> None:
        """Create the fetcher; it connects when it is asked to.

        Args:
            settings: What may be fetched.
            resolve: Resolves host names; the system's resolver if None.
        """
        self._settings = settings
        # A lookup that nothing answers outlives its fetch.
        self._resolver = Resolver(2 * settings.concurrency)
        self.slots = FetchSlots(settings.concurrency, settings.concurrency_per_account)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls_context(settings.ca_file),
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=PinnedBackend(resolve or self._resolver, settings.networks),
        )

    async def fetch(
        self, account: str, media: Sequence[RemoteMedia], max_characters: int
    ) -> Mapping[str, str]:
        """Fetch all media of one request, each URL once.

        Args:
            account: Whose request it is.
            media: The URLs.
            max_characters: How long one `data:` URL may be.

        Returns:
            The `data:` URL for each URL.

        Raises:
            MediaNotFetched: naming the field of one that failed.
            MediaBusy: there was no free place in time.
        """
        distinct = {one.url: one for one in reversed(media)}
        deadline = asyncio.get_running_loop().time() + self._settings.total_seconds
        limits = FetchLimits(deadline, max_characters)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    url: group.create_task(self._fetch(account, one, limits))
                    for url, one in distinct.items()
                }
        except BaseExceptionGroup as failed:
            # A request that must change is told so, even where others found no place.
            raise max(failed.exceptions, key=lambda e: isinstance(e, ClientError)) from None
        return {url: task.result() for url, task in tasks.items()}

    async def close(self) -> None:
        """Close open connections."""
        await self._pool.aclose()
        self._resolver.close()

    async def _fetch(self, account: str, media: RemoteMedia, limits: FetchLimits) -> str:
        began: float | None = None
        outcome, shown = "cancelled", ""
        try:
            async with asyncio.timeout_at(limits.deadline), self.slots.take(account):
                began = monotonic()
                found = await self._download(media, limits.url_characters)
                outcome = "fetched"
                return found
        except FetchRefused as refused:
            outcome, shown = refused.outcome, refused.shown
        except InvalidWebhook:
            outcome, shown = "redirect", NOT_FETCHED
        except (TimeoutError, httpcore2.TimeoutException):
            outcome, shown = "busy" if began is None else "timeout", NOT_FETCHED
        except (Undeliverable, httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            outcome, shown = "unreachable", NOT_FETCHED
            log.info("media_unreachable", account=account, error=type(error).__name__)
        finally:
            metrics.media_fetches.labels(outcome).inc()
            if began is not None:
                metrics.media_fetch_seconds.observe(monotonic() - began)
        if outcome == "busy":
            text = f"no free place to fetch media within {self._settings.total_seconds:g} s"
            raise MediaBusy(text, retry_after_seconds=RETRY_AFTER_SECONDS)
        raise MediaNotFetched(f"{media.field}: {shown}", param=media.field)

    async def _download(self, media: RemoteMedia, max_characters: int) -> str:
        url = media.url
        for _ in range(self._settings.redirects + 1):
            target = media_target(url, self._settings, media.field)
            answer = await self._pool.handle_async_request(self._request(target))
            try:
                if answer.status == 200:
                    return await _data_url(answer, media.modality, max_characters)
                if answer.status not in REDIRECTS:
                    raise FetchRefused("status")
                url = urldefrag(_join(url, _header(answer, b"location"))).url
            finally:
                await answer.aclose()
        raise FetchRefused("redirect")

    def _request(self, target: WebhookTarget) -> httpcore2.Request:
        sent = {
            "Host": target.authority,
            "User-Agent": AGENT,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        limit = self._settings.total_seconds
        timeout = {
            "connect": self._settings.connect_seconds,
            **dict.fromkeys(("read", "write", "pool"), limit),
        }
        url = httpcore2.URL(
            scheme=target.scheme, host=target.host, port=target.port, target=target.target
        )
        extensions = {"timeout": timeout}
        return httpcore2.Request("GET", url, headers=list(sent.items()), extensions=extensions)


def _join(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise FetchRefused("redirect") from None


def _header(answer: httpcore2.Response, name: bytes) -> str:
    values = [value for key, value in answer.headers if key.lower() == name]
    return values[-1].decode("latin-1").strip() if values else ""


async def _data_url(answer: httpcore2.Response, modality: str, max_characters: int) -> str:
    """Read a response's body to its end, or up to the first byte too many."""
    kind = _header(answer, b"content-type").partition(";")[0].strip().lower()
    encoded = _header(answer, b"content-encoding").lower() not in ("", "identity")
    if encoded or MEDIA_TYPE.fullmatch(kind) is None or not kind.startswith(f"{modality}/"):
        raise FetchRefused("type", f"expected the URL of {modality} data, by its Content-Type")
    head = f"data:{kind};base64,"
    max_bytes = max(0, max_characters - len(head)) // 4 * 3
    too_large = FetchRefused("size", f"expected at most {max_bytes} bytes of data at the URL")
    length = _header(answer, b"content-length")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise too_large
    data = bytearray()
    async for chunk in answer.aiter_stream():
        data += chunk
        metrics.media_bytes.inc(len(chunk))
        if len(data) > max_bytes:
            raise too_large
    return head + base64.b64encode(data).decode()
