"""A job store beside the databases."""

from tests.integration.billing.conftest import settings, store

__all__ = ["settings", "store"]
