"""Limits attempts to sign in, counted in Redis for all API processes.

Invariants: an attempt is counted before its password is checked, so concurrent attempts gain
nothing. A successful attempt resets the count of the person, never that of the address. All
addresses of one IPv6 site network count as one address.
"""

from ipaddress import IPv6Address, IPv6Network, ip_address

from accounts.caller import digest_of
from accounts.errors import TooManySignIns
from accounts.sign_in_attempts import AttemptLimit, SignInAttempts
from core.settings.auth import AuthSettings

#: Prefix length of an IPv6 site network, from which a site can use any address.
SITE_BITS = 64


class LoginThrottle:
    """Counts attempts per person and per address."""

    def __init__(self, counts: SignInAttempts, settings: AuthSettings) -> None:
        self._counts = counts
        self._settings = settings

    async def attempt(self, email: str, address: str) -> None:
        """Count an attempt.

        Raises:
            TooManySignIns: With the seconds until the next attempt is allowed.
            StoreUnavailable: It cannot be counted, so it is refused.
        """
        settings = self._settings
        seconds = settings.attempts_window_seconds
        wait = await self._counts.count(
            AttemptLimit(_person(email), settings.attempts, seconds),
            AttemptLimit(f"address:{site_of(address)}", settings.attempts_per_address, seconds),
        )
        if wait:
            raise TooManySignIns("too many attempts to sign in", retry_after_seconds=wait)

    async def forgive(self, email: str) -> None:
        """Reset the count of a person after a successful attempt."""
        await self._counts.forgive(_person(email))


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
