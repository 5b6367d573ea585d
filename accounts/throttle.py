"""How often somebody may try to sign in, counted in Redis for all API processes.

Invariant: an attempt is counted before its password is looked at, so many at once gain nothing;
one that was right forgives the person's, never the address's.
"""

from accounts.errors import TooManySignIns
from jobs.accounts import digest_of
from jobs.callers import Attempts, SignIns
from jobs.settings import AuthSettings


class Throttle:
    """Counts attempts per person and per address."""

    def __init__(self, counts: SignIns, settings: AuthSettings) -> None:
        self._counts = counts
        self._settings = settings

    async def attempt(self, email: str, address: str) -> None:
        """Count an attempt.

        Raises:
            TooManySignIns: saying when the next one is due.
            StoreUnavailable: it cannot be counted, so it is not allowed.
        """
        settings = self._settings
        seconds = settings.attempts_seconds
        wait = await self._counts.count(
            Attempts(_person(email), settings.attempts, seconds),
            Attempts(f"address:{address}", settings.attempts_per_address, seconds),
        )
        if wait:
            raise TooManySignIns("too many attempts to sign in", retry_after_seconds=wait)

    async def forgive(self, email: str) -> None:
        """Forget a person's attempts."""
        await self._counts.forgive(_person(email))


def _person(email: str) -> str:
    return f"email:{digest_of(email)}"
