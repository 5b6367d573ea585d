"""Which addresses are on the public internet. Pure.

Invariant: what is not known to be public is refused, in every way an address can be written or
wrapped in another; only a setting opens a private network.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from core.settings.webhooks import Network

Address = IPv4Address | IPv6Address

#: IANA's special-purpose IPv4 addresses, and the one public address that is a cloud's own.
CLOSED_V4 = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24"),
        *("192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # the host agent of Azure's machines
    )
)

#: All global unicast addresses of IPv6 begin like this; mapped (`::ffff:0:0/96`), NAT64
#: (`64:ff9b::/96`), unique local, link-local and multicast ones do not.
OPEN_V6 = ip_network("2000::/3")

#: What is special in there: Teredo and other protocols, documentation, 6to4, an anycast service.
CLOSED_V6 = tuple(
    ip_network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48")
)


def may_reach(address: Address, allowed: Iterable[Network]) -> bool:
    """Return whether something may be sent to an address."""
    return is_public(address) or any(
        address.version == network.version and address in network for network in allowed
    )


def is_public(address: Address) -> bool:
    """Return whether an address is anybody's on the internet, and not ours or special."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in CLOSED_V4)
    return address in OPEN_V6 and not any(address in network for network in CLOSED_V6)


def read_address(text: str) -> Address | None:
    """Return what a resolver or URL wrote, None for a name.

    A scope (`%eth0`) does not matter, but only IPv6 has one: `8.8.8.8%x.example.com` is a name,
    which a resolver may answer as its owner likes.
    """
    address, scope, _ = text.partition("%")
    if scope and ":" not in address:
        return None
    try:
        return ip_address(address)
    except ValueError:
        return None
