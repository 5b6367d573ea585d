"""Posts one delivery, within a time limit, to an IP address that was checked.

Invariant: each attempt resolves the name again, checks every address, and connects to one of these;
TLS and `Host` use the name. Redirects are not followed, proxies are not used, and the response's
body is not read. So neither DNS nor a receiver can lead a delivery to another place. What a client
is told does not depend on whether a name exists inside.
"""

import asyncio
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpcore2
import structlog

from core.settings.webhooks import WebhookSettings
from webhooks.dns_resolver import Resolve
from webhooks.errors import InvalidWebhook, Undeliverable
from webhooks.pinned_backend import PinnedBackend, tls_context
from webhooks.retry_schedule import RETRY_AFTER_STATUSES, retry_after
from webhooks.url_rules import check_url

log = structlog.get_logger()

AGENT = "Penstock-Webhooks/1"


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """The outcome of an attempt; `failure` is empty if the receiver answered with 2xx.

    `retry_after` is in seconds, from the response. `milliseconds` is 0 if the name leads nowhere.
    """

    status: int | None
    failure: str
    milliseconds: int
    retry_after: float | None = None

    @property
    def accepted(self) -> bool:
        """Return whether the receiver accepted the delivery."""
        return not self.failure


class Sender:
    """Sends deliveries, each over a new connection."""

    def __init__(self, settings: WebhookSettings, resolve: Resolve) -> None:
        self._settings = settings
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls_context(settings.ca_file),
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=PinnedBackend(resolve, settings.networks),
        )

    async def send(self, url: str, body: bytes, headers: dict[str, str]) -> SendOutcome:
        """Post once.

        Args:
            url: the receiver's URL; it is checked again.
            body: the JSON document, as it was signed.
            headers: the signature headers of Standard Webhooks 1.0.

        Returns:
            The outcome; a failed attempt is an outcome, not an error.
        """
        began = time.monotonic()
        status, retry_seconds = None, None
        try:
            async with asyncio.timeout(self._settings.total_seconds):
                status, retry_seconds = await self._post(url, body, headers)
            failure = _failure_of(status)
        except TimeoutError:
            failure = f"no response within {self._settings.total_seconds:g} s"
        except Undeliverable as error:
            log.info("webhook_unreachable", host=urlsplit(url).hostname, why=str(error))
            return SendOutcome(None, error.shown, 0)
        except InvalidWebhook as error:
            failure = str(error)
        except (httpcore2.TimeoutException, httpcore2.NetworkError, OSError) as error:
            failure = _describe(error)
        except Exception as error:  # noqa: BLE001 - a receiver may answer anything, even no HTTP
            failure = f"invalid HTTP response ({type(error).__name__})"
        elapsed = round((time.monotonic() - began) * 1000)
        return SendOutcome(status, failure[:128], elapsed, retry_seconds)

    async def _post(
        self, url: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, float | None]:
        target = check_url(url, self._settings)
        sent = {
            "Host": target.authority,
            "User-Agent": AGENT,
            "Accept": "*/*",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **headers,
        }
        limit = self._settings.total_seconds
        timeout = {
            "connect": self._settings.connect_seconds,
            **dict.fromkeys(("read", "write", "pool"), limit),
        }
        request = httpcore2.Request(
            "POST",
            httpcore2.URL(
                scheme=target.scheme, host=target.host, port=target.port, target=target.target
            ),
            headers=list(sent.items()),
            content=body,
            extensions={"timeout": timeout},
        )
        answer = await self._pool.handle_async_request(request)
        try:
            return answer.status, _retry_seconds(answer)
        finally:
            await answer.aclose()

    async def close(self) -> None:
        """Close open connections."""
        await self._pool.aclose()


def _retry_seconds(answer: httpcore2.Response) -> float | None:
    if answer.status not in RETRY_AFTER_STATUSES:
        return None
    for name, value in answer.headers:
        if name.lower() == b"retry-after":
            return retry_after(value.decode("latin-1").strip(), datetime.now(UTC))
    return None


def _failure_of(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"answered {status}: redirects are not followed"
    return f"answered {status}"


def _describe(error: Exception) -> str:
    """Describe a network error without addresses."""
    if isinstance(error, httpcore2.ConnectTimeout):
        return "connection timed out"
    if isinstance(error, httpcore2.TimeoutException):
        return "response timed out"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {cause.reason or 'handshake failed'}"
        cause = cause.__cause__ or cause.__context__
    refused = isinstance(error, httpcore2.ConnectError)
    return "connection failed" if refused else "connection lost"
