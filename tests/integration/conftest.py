"""Fixtures for several folders of integration tests."""

from collections.abc import AsyncIterator

import pytest

from core.settings.tree import Settings
from webhooks.deliverer import Deliverer


@pytest.fixture
async def deliverer(settings: Settings) -> AsyncIterator[Deliverer]:
    """A webhook deliverer; only the test gives it tickets."""
    opened = Deliverer(settings)
    yield opened
    await opened.close()
