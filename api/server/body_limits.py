"""How large the body of each route may be, and how much of unfinished bodies a process holds.

Invariant: a body that is still arriving counts until it is whole or its request ends, so slow
clients together hold no more than the limits. Uploads do not count: they are not kept in memory.
"""

from collections import Counter
from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import Scope

from api.security.client_ip import Network, client_address
from core.settings.api import ApiSettings, LimitSettings
from wire.errors import AddressBusy, BodiesBusy

#: Routes whose bodies are requests to a model; the bodies of all others are small.
MODEL_ROUTES = frozenset(
    {
        *("/v1/jobs", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"),
        *("/v1/messages", "/v1/generate", "/v1/generate/stream"),
        *("/tokenize", "/detokenize", "/v1/messages/count_tokens", "/v1/responses/input_tokens"),
    }
)
RETRY_AFTER_SECONDS = 2.0


class BodyLimits:
    """The limits of one process; `uploads` maps paths to the size of their bodies in bytes."""

    def __init__(self, limits: LimitSettings, api: ApiSettings, uploads: Mapping[str, int]) -> None:
        self._limits = limits
        self._trusted: list[Network] = list(api.trusted_proxies)
        self._sizes = {**dict.fromkeys(MODEL_ROUTES, limits.body_bytes), **uploads}
        self._uploads = frozenset(uploads)
        self._small = min(limits.small_body_bytes, limits.body_bytes)
        self._pending: Counter[str] = Counter()
        self._total = 0

    def size(self, path: str) -> int:
        """Return how many bytes the body of a request to this path may have."""
        return self._sizes.get(path, self._small)

    def begin(self, scope: Scope) -> "PendingBody | None":
        """Return what counts a body of which a part has arrived; None for uploads."""
        if scope["path"] in self._uploads:
            return None
        return PendingBody(self, client_address(Request(scope), self._trusted))

    def add(self, address: str, count: int) -> None:
        """Count bytes.

        Raises:
            BodiesBusy: the process holds too much.
            AddressBusy: it holds too much from this address.
        """
        own = self._limits.pending_body_bytes_per_address
        if own and self._pending[address] + count > own:
            raise AddressBusy(
                f"More than {own} bytes of unfinished bodies come from your address; send fewer"
                " requests at the same time",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        if self._total + count > self._limits.pending_body_bytes:
            text = "Too many bodies are arriving at the same time"
            raise BodiesBusy(text, retry_after_seconds=RETRY_AFTER_SECONDS)
        self._pending[address] += count
        self._total += count

    def remove(self, address: str, count: int) -> None:
        """Stop to count bytes."""
        self._total -= count
        self._pending[address] -= count
        if not self._pending[address]:
            del self._pending[address]


class PendingBody:
    """One body that is still arriving."""

    __slots__ = ("_address", "_bytes", "_limits")

    def __init__(self, limits: BodyLimits, address: str) -> None:
        self._limits = limits
        self._address = address
        self._bytes = 0

    def add(self, count: int) -> None:
        """Count bytes that have arrived; raises as `BodyLimits.add`."""
        self._limits.add(self._address, count)
        self._bytes += count

    def end(self) -> None:
        """Stop to count: the body is whole, or its request has ended."""
        self._limits.remove(self._address, self._bytes)
        self._bytes = 0
