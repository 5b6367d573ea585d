"""Sign-in attempts are counted per person and address; attempts elsewhere refuse no known place."""

from collections.abc import AsyncIterator

import pytest

from accounts.cache_scripts import open_scripts
from accounts.errors import TooManySignIns
from accounts.login_throttle import LoginThrottle
from accounts.sign_in_attempts import SignInAttempts
from core.settings.auth import AuthSettings
from jobs.store.job_store import JobStore

MOST, PER_PERSON, PLACES = 3, 4, 2
ANN, HOME, OFFICE, STRANGER = "ann@example.com", "192.0.2.1", "2001:db8:1:2::1", "198.51.100.7"


async def throttle_of(store: JobStore, attempts: int) -> AsyncIterator[LoginThrottle]:
    settings = AuthSettings(
        attempts=attempts,
        attempts_per_address=MOST,
        attempts_window_seconds=3600,
        known_places=PLACES,
    )
    scripts = open_scripts(store.redis, store.keys.prefix)
    yield LoginThrottle(SignInAttempts(store.redis, store.keys, scripts), settings)
    await scripts.close()


@pytest.fixture
async def throttle(store: JobStore) -> AsyncIterator[LoginThrottle]:
    """Limits addresses first."""
    async for made in throttle_of(store, 100):
        yield made


@pytest.fixture
async def strict(store: JobStore) -> AsyncIterator[LoginThrottle]:
    """Limits people, too."""
    async for made in throttle_of(store, PER_PERSON):
        yield made


async def is_refused(throttle: LoginThrottle, email: str, address: str) -> bool:
    try:
        await throttle.attempt(email, address)
    except TooManySignIns:
        return True
    return False


async def refuse_elsewhere(throttle: LoginThrottle, email: str) -> None:
    """Try wrong passwords from other addresses until the person is refused there."""
    for number in range(PER_PERSON + 1):
        if await is_refused(throttle, email, f"198.51.100.{number}"):
            return
    raise AssertionError("attempts on one person are not limited")


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


async def test_wrong_passwords_elsewhere_refuse_nobody_at_a_known_place(
    strict: LoginThrottle,
) -> None:
    await strict.attempt(ANN, OFFICE)
    await strict.succeeded(ANN, OFFICE)
    await refuse_elsewhere(strict, ANN)
    assert await is_refused(strict, ANN, HOME), "a place that is not hers"
    assert not await is_refused(strict, ANN, "2001:db8:1:2::9"), "the network of her office"


async def test_many_attempts_at_a_shared_address_refuse_nobody_who_signed_in_there(
    strict: LoginThrottle,
) -> None:
    await strict.attempt(ANN, HOME)
    await strict.succeeded(ANN, HOME)
    for number in range(MOST):
        await is_refused(strict, f"u{number}@example.com", HOME)
    assert await is_refused(strict, "u9@example.com", HOME), "the address is at its limit"
    assert not await is_refused(strict, ANN, HOME)


async def test_guesses_at_a_known_place_are_limited(strict: LoginThrottle) -> None:
    await strict.succeeded(ANN, HOME)
    refused = [await is_refused(strict, ANN, HOME) for _ in range(PER_PERSON + 1)]
    assert refused == [False] * PER_PERSON + [True]


async def test_signing_in_at_a_known_place_gives_a_stranger_no_more_guesses(
    strict: LoginThrottle,
) -> None:
    await strict.succeeded(ANN, HOME)
    await refuse_elsewhere(strict, ANN)
    await strict.attempt(ANN, HOME)
    await strict.succeeded(ANN, HOME)
    assert await is_refused(strict, ANN, STRANGER)


async def test_a_person_has_a_bounded_number_of_places_and_redis_no_address(
    strict: LoginThrottle, store: JobStore
) -> None:
    for address in (STRANGER, HOME, OFFICE):
        await strict.succeeded(ANN, address)
    keys = [key async for key in store.redis.scan_iter(match=f"{store.keys.prefix}:signin:*")]
    assert len(keys) == 1
    places = await store.redis.zrange(keys[0], 0, -1)
    assert len(places) == PLACES
    assert await store.redis.ttl(keys[0]) > 0
    said = f"{keys} {places}"
    assert not any(text in said for text in (ANN, HOME, "2001:db8", STRANGER))
    await refuse_elsewhere(strict, ANN)
    assert await is_refused(strict, ANN, STRANGER), "the one used longest ago"
    assert not await is_refused(strict, ANN, HOME)
    assert not await is_refused(strict, ANN, OFFICE)


async def test_changes_of_a_password_are_limited_apart_from_signing_in(
    strict: LoginThrottle,
) -> None:
    await refuse_elsewhere(strict, ANN)
    for _ in range(PER_PERSON):
        await strict.attempt_change("user_1")
    with pytest.raises(TooManySignIns):
        await strict.attempt_change("user_1")
    await strict.forgive_change("user_1")
    await strict.attempt_change("user_1")
