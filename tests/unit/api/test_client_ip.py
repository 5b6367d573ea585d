"""The client's address: only the entries that trusted proxies wrote in X-Forwarded-For count."""

from ipaddress import ip_network
from typing import Any

import pytest
from starlette.requests import Request

from accounts.caller import Caller
from api.security.client_ip import check_address, client_address
from core.errors import AddressForbidden

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def request(peer: str | None, *forwarded: str) -> Request:
    scope: dict[str, Any] = {
        "type": "http",
        "client": None if peer is None else (peer, 1234),
        "headers": [(b"x-forwarded-for", line.encode()) for line in forwarded],
    }
    return Request(scope)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["192.0.2.1"], "203.0.113.9"),
        ("10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["6.6.6.6, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["6.6.6.6", "192.0.2.1, 10.9.9.9"], "192.0.2.1"),
        ("10.0.0.1", ["10.1.1.1"], "10.1.1.1"),
        ("10.0.0.1", ["192.0.2.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1:80"], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        (None, ["192.0.2.1"], ""),
    ],
)
def test_the_nearest_hop_that_is_no_proxy_is_the_client(
    peer: str | None, forwarded: list[str], expected: str
) -> None:
    assert client_address(request(peer, *forwarded), PROXIES) == expected


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert client_address(request("10.0.0.1", "192.0.2.1"), []) == "10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "good"),
    [
        ("192.0.2.7", True),
        ("::ffff:192.0.2.7", True),
        ("192.0.3.7", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("not an address", False),
        (None, False),
    ],
)
def test_a_key_with_networks_is_good_from_there_only(peer: str | None, good: bool) -> None:
    key = Caller(id="k", account="acme", networks=("192.0.2.0/24", "2001:db8::/32"))
    if good:
        check_address(request(peer), key, [])
    else:
        with pytest.raises(AddressForbidden):
            check_address(request(peer), key, [])
    check_address(request(peer), Caller(id="k", account="acme"), [])
