"""Limits attempts to sign in, counted in Redis for all API processes.

Invariants: an attempt is counted before its password is checked, so concurrent attempts gain
nothing. Attempts at a place from which the person signed in before are counted for that person and
place alone, so attempts elsewhere never refuse the person there. A successful attempt resets the
count of the person, never that of the address. All addresses of one IPv6 site network count as one.
"""

import hmac
from ipaddress import IPv6Address, IPv6Network, ip_address

from accounts.caller import digest_of
from accounts.errors import TooManySignIns
from accounts.sign_in_attempts import AttemptLimit, KnownPlaces, SignInAttempts
from core.settings.auth import AuthSettings

#: Prefix length of an IPv6 site network, from which a site can use any address.
SITE_BITS = 64
SECONDS_PER_DAY = 86_400


class LoginThrottle:
    """Counts attempts per person and per address, and at known places per person and place."""

    def __init__(self, counts: SignInAttempts, settings: AuthSettings) -> None:
        self._counts = counts
        self._settings = settings
        secret = settings.jwt_secret
        self._secret = b"" if secret is None else secret.get_secret_value().encode()

    async def attempt(self, email: str, address: str) -> None:
        """Count an attempt to sign in.

        Raises:
            TooManySignIns: With the seconds until the next attempt is allowed.
            StoreUnavailable: It cannot be counted, so it is refused.
        """
        settings, place = self._settings, self._place(email, address)
        if await self._counts.is_known(self._places(email), place):
            await self._count(self._limit(f"place:{place}"))
            return
        await self._count(
            self._limit(_person(email)),
            AttemptLimit(
                f"address:{site_of(address)}",
                settings.attempts_per_address,
                settings.attempts_window_seconds,
            ),
        )

    async def succeeded(self, email: str, address: str) -> None:
        """Remember the place of a successful attempt, and reset the count that it was part of."""
        place = self._place(email, address)
        was_known = await self._counts.remember(self._places(email), place)
        await self._counts.forgive(f"place:{place}" if was_known else _person(email))

    async def attempt_change(self, user: str) -> None:
        """Count a signed-in person's attempt to change the password.

        Such an attempt needs a session, so it is counted apart from those to sign in.

        Raises:
            TooManySignIns: With the seconds until the next attempt is allowed.
            StoreUnavailable: It cannot be counted, so it is refused.
        """
        await self._count(self._limit(f"change:{user}"))

    async def forgive_change(self, user: str) -> None:
        """Reset the count of changes after one with the right password."""
        await self._counts.forgive(f"change:{user}")

    async def _count(self, *limits: AttemptLimit) -> None:
        wait = await self._counts.count(*limits)
        if wait:
            raise TooManySignIns("too many attempts to sign in", retry_after_seconds=wait)

    def _limit(self, name: str) -> AttemptLimit:
        settings = self._settings
        return AttemptLimit(name, settings.attempts, settings.attempts_window_seconds)

    def _places(self, email: str) -> KnownPlaces:
        settings = self._settings
        return KnownPlaces(
            f"places:{digest_of(email)}",
            settings.known_places,
            settings.known_place_days * SECONDS_PER_DAY,
        )

    def _place(self, email: str, address: str) -> str:
        """Return a keyed hash: of a plain one, all IPv4 addresses could be tried."""
        return hmac.digest(self._secret, f"{email}\n{site_of(address)}".encode(), "sha256").hex()


def _person(email: str) -> str:
    return f"email:{digest_of(email)}"


def site_of(address: str) -> str:
    """Return the address under which a client is counted: for IPv6, its site's network."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        mapped = found.ipv4_mapped
        found = mapped or IPv6Network((int(found), SITE_BITS), strict=False).network_address
    return str(found)
