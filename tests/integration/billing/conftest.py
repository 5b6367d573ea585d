"""A job store beside the databases."""

from collections.abc import AsyncIterator

import pytest

from jobs.open import open_store
from jobs.settings import Settings
from jobs.store import JobStore
from tests.conftest import settings_for
from tests.support.redis_server import RedisServer


@pytest.fixture
def settings(redis_server: RedisServer) -> Settings:
    """Retention starts with the archive."""
    return settings_for(redis_server, retention={"start": "archive"})


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[JobStore]:
    opened = open_store(settings)
    yield opened
    await opened.close()
