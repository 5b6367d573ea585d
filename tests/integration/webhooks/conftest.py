"""The settings of the billing tests."""

from tests.integration.billing.conftest import settings

__all__ = ["settings"]
