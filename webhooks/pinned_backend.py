"""Connects to an IP address that was checked, for webhooks and for media that requests name by URL.

Invariant: each connection resolves the name again, checks every address, and goes to one of these;
TLS uses the name. So DNS cannot lead a request to another place.
"""

import ssl
from collections.abc import Iterable
from pathlib import Path

import httpcore2

from core.settings.webhooks import Network
from webhooks.address_rules import may_reach, read_address
from webhooks.dns_resolver import Resolve
from webhooks.errors import Undeliverable

#: Cap on addresses of a name that one attempt tries.
MAX_ADDRESSES = 4


class PinnedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to the addresses that were checked, whatever the name resolves to a moment later."""

    def __init__(self, resolve: Resolve, networks: Iterable[Network]) -> None:
        self._resolve = resolve
        self._networks = tuple(networks)
        self._tcp = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the base's name
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address that answers, if all addresses may be reached."""
        error: Exception = Undeliverable("the host name has no address")
        for address in (await self._addresses(host, port))[:MAX_ADDRESSES]:
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
            raise Undeliverable("the host name was not found") from None
        for text in found:
            address = read_address(text)
            if address is None or not may_reach(address, self._networks):
                raise Undeliverable("the host name resolves to an address that is not public")
        return list(found)


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return what verifies servers: the public certificates, and those of a PEM file."""
    context = httpcore2.default_ssl_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
