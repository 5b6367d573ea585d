"""Only addresses known to be public count as public, in any notation."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.address_rules import CLOSED_V4, is_public, may_reach, read_address


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
        *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1"),
        *("198.18.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "192.88.99.1"),
        *("168.63.129.16", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::8.8.8.8"),
        *("64:ff9b:1::1", "100::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1"),
        *("2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1", "5f00::1"),
    ],
)
def test_special_addresses_are_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"]
)
def test_addresses_on_the_internet_are_public(text: str) -> None:
    assert is_public(ip_address(text))


@given(st.ip_addresses())
def test_what_the_standard_library_calls_special_is_not_public(address: object) -> None:
    found = ip_address(str(address))
    if is_public(found):
        assert not found.is_private
        assert not found.is_loopback
        assert not found.is_link_local
        assert not found.is_multicast
        assert not found.is_reserved
        assert not found.is_unspecified


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_becomes_public_by_being_wrapped(address: object) -> None:
    text = str(address)
    number = int(ip_address(text))
    high, low = number >> 16, number & 0xFFFF
    wrapped = (f"::ffff:{text}", f"::{text}", f"64:ff9b::{text}", f"2002:{high:x}:{low:x}::")
    assert not any(is_public(ip_address(one)) for one in wrapped)


def test_only_a_named_network_is_opened() -> None:
    own = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    assert may_reach(ip_address("10.1.2.3"), own)
    assert may_reach(ip_address("fd00::1"), own)
    assert not may_reach(ip_address("10.2.0.1"), own)
    assert not may_reach(ip_address("::ffff:10.1.2.3"), own)
    assert may_reach(ip_address("8.8.8.8"), ())


def test_scopes_do_not_hide_an_address_and_names_are_none() -> None:
    assert read_address("fe80::1%eth0") == ip_address("fe80::1")
    assert read_address("hooks.example.com") is None
    assert read_address("127.1") is None
    assert read_address("8.8.8.8%25x.example.com") is None, "an IPv4 address has no scope"
    assert len(CLOSED_V4) == len(set(CLOSED_V4))
