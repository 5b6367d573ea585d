"""Finds the IP address of the client.

Invariant: only the entries of `X-Forwarded-For` that trusted proxies wrote are used; entries that
the client itself sent are ignored.
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
    """Return the address of the nearest hop that is not a trusted proxy; empty if unknown."""
    address = request.client.host if request.client else ""
    hops = request.headers.getlist("x-forwarded-for") if trusted else []
    for hop in reversed([part.strip() for line in hops for part in line.split(",")]):
        if not is_within(address, trusted):
            break
        if parsed_address(hop) is None:
            break  # not an address: use the nearest trusted proxy instead
        address = hop
    return address


def check_address(request: Request, caller: Caller, trusted: Sequence[Network]) -> None:
    """Check that the caller's key may be used from the client's address.

    Raises:
        AddressForbidden: The address is outside the key's networks; the text names it.
    """
    if caller.networks is not None:
        address = client_address(request, trusted)
        if not is_within(address, [_network(text) for text in caller.networks]):
            raise AddressForbidden(
                f"This key may not be used from {address or 'an unknown address'}"
            )


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Return whether an address is in one of these networks; a text that is none is not."""
    parsed = parsed_address(address)
    return parsed is not None and any(
        parsed.version == network.version and parsed in network for network in networks
    )


def parsed_address(text: str) -> Address | None:
    """Parse an address; an IPv4-mapped IPv6 address becomes IPv4."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


@lru_cache(maxsize=4096)
def _network(text: str) -> Network:
    return ip_network(text)
