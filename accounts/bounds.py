"""Bounds of keys and users: who may lift them, and how those of a user and a key combine.

Invariants: a bound of a key is changed only by a caller of at least the rank that set it. A key is
within its own bounds and those of its user, so a second key of a user gains nothing.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Network, ip_network

from accounts.caller import Limits
from core.errors import Forbidden

#: Columns of a key that bound it.
SCOPES = ("models", "routes", "networks")
BOUNDS = frozenset({"role", *SCOPES, "expires_at", *Limits.model_fields})


class Rank(IntEnum):
    """Who sets a bound; each may lift those of the ranks up to its own."""

    USER = 0
    ADMIN = 1
    OPERATOR = 2


def bounds_set(
    now: Mapping[str, object],
    before: Mapping[str, int] | None,
    values: Mapping[str, object],
    rank: Rank,
) -> dict[str, int]:
    """Return who set each bound of a key after a change.

    Args:
        now: The key's columns before the change.
        before: Who set its bounds so far.
        values: The columns to change.
        rank: Who changes them.

    Raises:
        Forbidden: A bound was set by a higher rank; `param` names it.
    """
    found = dict(before or {})
    for name in sorted(BOUNDS & values.keys()):
        setter_rank = found.get(name, Rank.USER)
        if values[name] == now[name] and setter_rank >= rank:
            continue
        if setter_rank > rank:
            setter = Rank(setter_rank).name.lower()
            text = f"{name} was set by an {setter}, and only an {setter} changes it"
            raise Forbidden(text, param=name)
        found.pop(name, None)
        # Nothing is bounded by null, or by a limit of 0.
        if rank and values[name]:
            found[name] = int(rank)
    return found


def within(own: Sequence[str] | None, user: Sequence[str] | None) -> list[str] | None:
    """Return what both scopes allow; None is everything, an empty list is nothing."""
    if own is None or user is None:
        chosen = user if own is None else own
        return None if chosen is None else sorted(chosen)
    return sorted(set(own) & set(user))


def networks_within(
    own: Sequence[str] | None, user: Sequence[str] | None
) -> tuple[str, ...] | None:
    """Return the networks that are in both lists; None is everywhere, an empty tuple nowhere."""
    if own is None or user is None:
        chosen = user if own is None else own
        return None if chosen is None else tuple(chosen)
    pairs = (_common(ip_network(one), ip_network(other)) for one in own for other in user)
    return tuple(dict.fromkeys(str(network) for network in pairs if network is not None))


def _common(
    one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network
) -> IPv4Network | IPv6Network | None:
    """Return the smaller of two networks, None unless it is part of the other."""
    if one.version != other.version or not one.overlaps(other):
        return None
    return max(one, other, key=lambda network: network.prefixlen)


def tighter(own: Limits, user: Limits) -> Limits:
    """Return the lower of both limits, field by field; 0 is none."""
    given, bound = own.model_dump(), user.model_dump()
    return Limits(
        **{name: min(filter(None, (given[name], bound[name])), default=0) for name in given}
    )
