"""Settings as the ledger has them."""

from tests.integration.billing.conftest import settings

__all__ = ["settings"]
