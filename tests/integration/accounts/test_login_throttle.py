"""Sign-in attempts are counted per address, IPv6 addresses per network."""

from collections.abc import AsyncIterator

import pytest

from accounts.cache_scripts import open_scripts
from accounts.errors import TooManySignIns
from accounts.login_throttle import LoginThrottle
from accounts.sign_in_attempts import SignInAttempts
from core.settings.auth import AuthSettings
from jobs.store.job_store import JobStore

MOST = 3


@pytest.fixture
async def throttle(store: JobStore) -> AsyncIterator[LoginThrottle]:
    settings = AuthSettings(attempts=100, attempts_per_address=MOST, attempts_seconds=3600)
    scripts = open_scripts(store.redis, store.keys.prefix)
    yield LoginThrottle(SignInAttempts(store.redis, store.keys, scripts), settings)
    await scripts.close()


@pytest.mark.parametrize(
    "addresses",
    [
        ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:DB8:1:2:ffff::9", "2001:db8:1:2:1:2:3:4"],
        ["fe80::1%eth0", "fe80::2%eth1", "fe80::3", "fe80::4"],
        ["192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201", "192.0.2.1"],
        ["", "", "", ""],
    ],
)
async def test_whoever_changes_addresses_within_one_network_is_one(
    throttle: LoginThrottle, addresses: list[str]
) -> None:
    for number, address in enumerate(addresses[:MOST]):
        await throttle.attempt(f"u{number}@example.com", address)
    with pytest.raises(TooManySignIns):
        await throttle.attempt("u9@example.com", addresses[MOST])


async def test_other_networks_are_others(throttle: LoginThrottle) -> None:
    for number in range(MOST):
        await throttle.attempt(f"u{number}@example.com", "2001:db8:1:2::1")
    for other in ("2001:db8:1:3::1", "192.0.2.1", "192.0.2.2"):
        await throttle.attempt("u9@example.com", other)
