"""Posts one delivery: to the very address that was checked, once, in bounded time.

Invariant: each attempt asks the resolver anew, checks every address it names, and connects to one
of these; TLS and `Host` keep the name. No redirect is followed, no proxy asked, no answer's body
read. So nothing a name points to later, or a receiver says, leads anywhere else.
"""

import asyncio
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import httpcore2

from core.settings.webhooks import WebhookSettings
from webhooks.address_rules import may_reach, read_address
from webhooks.dns_resolver import Resolve
from webhooks.errors import InvalidWebhook, Undeliverable
from webhooks.retry_schedule import ASKS_FOR_TIME, retry_after
from webhooks.url_rules import check_url

AGENT = "Penstock-Webhooks/1"

#: A name with more addresses has enough of them.
MOST_ADDRESSES = 4


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """How an attempt went: `failure` is empty when it was taken."""

    status: int | None
    failure: str
    milliseconds: int
    retry_after: float | None = None

    @property
    def taken(self) -> bool:
        """Return whether the receiver has it."""
        return not self.failure


class PinnedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections to addresses that were looked at, whatever the name says a moment later."""

    def __init__(self, resolve: Resolve, settings: WebhookSettings) -> None:
        self._resolve = resolve
        self._networks = settings.networks
        self._tcp = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the base's name
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first of a name's addresses that answers, if all of them are public."""
        error: Exception = Undeliverable("the name has no address")
        for address in (await self._addresses(host, port))[:MOST_ADDRESSES]:
            try:
                return await self._tcp.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as failed:
                error = failed
        raise error

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = [host] if read_address(host) else await self._resolve(host, port)
        except (OSError, UnicodeError):
            raise Undeliverable("the name was not found") from None
        for text in found:
            address = read_address(text)
            if address is None or not may_reach(address, self._networks):
                raise Undeliverable("the name does not lead to the public internet")
        return list(found)


class Sender:
    """Sends deliveries; each over a connection of its own."""

    def __init__(self, settings: WebhookSettings, resolve: Resolve) -> None:
        self._settings = settings
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=_tls(settings),
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=PinnedBackend(resolve, settings),
        )

    async def send(self, url: str, body: bytes, headers: dict[str, str]) -> SendOutcome:
        """Post once; whatever goes wrong is the outcome."""
        began = time.monotonic()
        status, asked = None, None
        try:
            async with asyncio.timeout(self._settings.total_seconds):
                status, asked = await self._post(url, body, headers)
            failure = _judge(status)
        except TimeoutError:
            failure = f"no answer within {self._settings.total_seconds:g} s"
        except (Undeliverable, InvalidWebhook) as error:
            failure = str(error)
        except (httpcore2.TimeoutException, httpcore2.NetworkError, OSError) as error:
            failure = _describe(error)
        except Exception as error:  # noqa: BLE001 - whatever a receiver answers is its own fault
            failure = f"no HTTP answer ({type(error).__name__})"
        elapsed = round((time.monotonic() - began) * 1000)
        return SendOutcome(status, failure[:128], elapsed, asked)

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
            return answer.status, _asked(answer)
        finally:
            await answer.aclose()

    async def close(self) -> None:
        """Close what is open."""
        await self._pool.aclose()


def _tls(settings: WebhookSettings) -> ssl.SSLContext:
    context = httpcore2.default_ssl_context()
    if settings.ca_file is not None:
        context.load_verify_locations(settings.ca_file)
    return context


def _asked(answer: httpcore2.Response) -> float | None:
    if answer.status not in ASKS_FOR_TIME:
        return None
    for name, value in answer.headers:
        if name.lower() == b"retry-after":
            return retry_after(value.decode("latin-1").strip(), datetime.now(UTC))
    return None


def _judge(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"answered {status}: redirects are not followed"
    return f"answered {status}"


def _describe(error: Exception) -> str:
    """Say what went wrong on the way, without addresses."""
    if isinstance(error, httpcore2.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, httpcore2.TimeoutException):
        return "no answer in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {cause.reason or 'no handshake'}"
        cause = cause.__cause__ or cause.__context__
    refused = isinstance(error, httpcore2.ConnectError)
    return "no connection" if refused else "the connection broke off"
