"""How often somebody may try to sign in, counted in Redis for all API processes.

Invariants: an attempt is counted before its password is looked at, so many at once gain nothing;
one that was right forgives the person's, never the address's. Who has a whole network of IPv6, as
everybody with IPv6 has, is one address.
"""

from ipaddress import IPv6Address, IPv6Network, ip_address

from accounts.caller import digest_of
from accounts.caller_cache import AttemptLimit, SignInAttempts
from accounts.errors import TooManySignIns
from core.settings.auth import AuthSettings

#: What is given to a site as one, and from which it takes as many addresses as it likes.
SITE_BITS = 64


class LoginThrottle:
    """Counts attempts per person and per address."""

    def __init__(self, counts: SignInAttempts, settings: AuthSettings) -> None:
        self._counts = counts
        self._settings = settings

    async def attempt(self, email: str, address: str) -> None:
        """Count an attempt.

        Raises:
            TooManySignIns: saying when the next one is due.
            StoreUnavailable: it cannot be counted, so it is not allowed.
        """
        settings = self._settings
        seconds = settings.attempts_window_seconds
        wait = await self._counts.count(
            AttemptLimit(_person(email), settings.attempts, seconds),
            AttemptLimit(_place(address), settings.attempts_per_address, seconds),
        )
        if wait:
            raise TooManySignIns("too many attempts to sign in", retry_after_seconds=wait)

    async def forgive(self, email: str) -> None:
        """Forget a person's attempts."""
        await self._counts.forgive(_person(email))


def _person(email: str) -> str:
    return f"email:{digest_of(email)}"


def _place(address: str) -> str:
    """Return what attempts of an address are counted under: of IPv6, the network of a site."""
    try:
        found = ip_address(address)
    except ValueError:
        return f"address:{address}"
    if isinstance(found, IPv6Address):
        mapped = found.ipv4_mapped
        found = mapped or IPv6Network((int(found), SITE_BITS), strict=False).network_address
    return f"address:{found}"
