"""Which IP addresses webhooks may be sent to. Pure.

Invariant: an address is refused unless it is known to be public, in every notation and wrapped in
any other address; only the setting `allow_networks` opens a private network.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from core.settings.webhooks import Network

Address = IPv4Address | IPv6Address

#: IANA's special-purpose IPv4 addresses, and one public address that a cloud uses internally.
CLOSED_V4 = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24"),
        *("192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's virtual machine agent
    )
)

#: The prefix of all global unicast IPv6 addresses; IPv4-mapped (`::ffff:0:0/96`), NAT64
#: (`64:ff9b::/96`), unique local, link-local and multicast addresses are outside of it.
OPEN_V6 = ip_network("2000::/3")

#: Special-purpose ranges inside it: Teredo and other protocols, documentation, 6to4, anycast.
CLOSED_V6 = tuple(
    ip_network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48")
)


def may_reach(address: Address, allowed: Iterable[Network]) -> bool:
    """Return whether webhooks may be sent to an address."""
    return is_public(address) or any(
        address.version == network.version and address in network for network in allowed
    )


def is_public(address: Address) -> bool:
    """Return whether an address is public on the internet, by IANA's special-purpose registries."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in CLOSED_V4)
    return address in OPEN_V6 and not any(address in network for network in CLOSED_V6)


def read_address(text: str) -> Address | None:
    """Return the address that a text means; None if it is a name.

    Only IPv6 has scopes (`%eth0`), and they do not matter here: `8.8.8.8%x.example.com` is a name,
    whose owner decides what it resolves to.
    """
    address, scope, _ = text.partition("%")
    if scope and ":" not in address:
        return None
    try:
        return ip_address(address)
    except ValueError:
        return None
