"""How many connections an API process keeps, altogether and from one address.

Invariant: a connection beyond a limit gets one answer and is closed; health probes are answered
as long as there is a place among the reserved ones, so that a flood does not restart the process.
"""

from collections import Counter
from ipaddress import IPv6Address, ip_network

from api.security.client_ip import Network, is_within, parsed_address
from core.errors import Overloaded, PipelineError
from core.settings.api import ApiSettings, LimitSettings
from wire.errors import AddressBusy

#: Connections beyond `limits.connections` that are kept for health probes.
RESERVED = 64
RETRY_AFTER_SECONDS = 5.0
PROBES = frozenset({"/health", "/ready", "/ping"})
#: Prefix length of an IPv6 site network, from which a site can use any address.
SITE_BITS = 64


class ConnectionLimits:
    """Counts the connections of one process."""

    def __init__(self, limits: LimitSettings, api: ApiSettings) -> None:
        self._limits = limits
        self._trusted: list[Network] = list(api.trusted_proxies)
        self._places: Counter[str] = Counter()

    def add(self, host: str, connections: int) -> tuple[str, PipelineError | None]:
        """Count a new connection.

        Args:
            host: The peer's address.
            connections: How many the process has, with this one.

        Returns:
            What to give to `remove`, and why no request of the connection is served.
        """
        place = "" if is_within(host, self._trusted) else _place(host)
        self._places[place] += 1
        own = self._limits.connections_per_address
        if connections > self._limits.connections:
            text = "Too many connections"
            return place, Overloaded(text, retry_after_seconds=RETRY_AFTER_SECONDS)
        if place and own and self._places[place] > own:
            text = f"Your address has more than {own} connections"
            return place, AddressBusy(text, retry_after_seconds=RETRY_AFTER_SECONDS)
        return place, None

    def is_full(self, connections: int) -> bool:
        """Return whether not even a health probe has a place."""
        return connections > self._limits.connections + RESERVED

    def remove(self, place: str) -> None:
        """Stop to count a connection."""
        self._places[place] -= 1
        if not self._places[place]:
            del self._places[place]


def _place(host: str) -> str:
    """Return the name that an address is counted under; for IPv6, its site network."""
    address = parsed_address(host)
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), SITE_BITS), strict=False))
    return str(address or host or "unknown")
