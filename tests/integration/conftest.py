"""What several folders of integration tests need."""

from collections.abc import AsyncIterator

import pytest

from core.settings.tree import Settings
from webhooks.deliverer import Deliverer


@pytest.fixture
async def deliverer(settings: Settings) -> AsyncIterator[Deliverer]:
    """A deliverer that nobody gives tickets but the test."""
    opened = Deliverer(settings)
    yield opened
    await opened.close()
