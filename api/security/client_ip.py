"""From which address a request comes.

Invariant: `X-Forwarded-For` is believed only as far as it was written by proxies that are trusted;
what the client itself put into it counts for nothing.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from starlette.requests import Request

from accounts.caller import Caller
from core.errors import AddressForbidden

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def client_address(request: Request, trusted: Sequence[Network]) -> str:
    """Return the address of the nearest hop that is no trusted proxy; empty if there is none."""
    address = request.client.host if request.client else ""
    hops = request.headers.getlist("x-forwarded-for") if trusted else []
    for hop in reversed([part.strip() for line in hops for part in line.split(",")]):
        if not _within(address, trusted):
            break
        if _parsed(hop) is None:
            break  # the nearest trusted proxy stands for whoever is behind it
        address = hop
    return address


def check_address(request: Request, caller: Caller, trusted: Sequence[Network]) -> None:
    """Refuse a key that is not to be used from here.

    Raises:
        AddressForbidden: naming the address it came from.
    """
    if caller.networks is not None:
        address = client_address(request, trusted)
        if not _within(address, [_network(text) for text in caller.networks]):
            raise AddressForbidden(f"this key may not be used from {address or 'here'}")


def _within(address: str, networks: Sequence[Network]) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(
        parsed.version == network.version and parsed in network for network in networks
    )


def _parsed(text: str) -> Address | None:
    """Return an address; an IPv4 one that came over IPv6 is itself."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


@lru_cache(maxsize=4096)
def _network(text: str) -> Network:
    return ip_network(text)
