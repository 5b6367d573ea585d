"""Settings of a job store for tests that also use a database."""

import pytest

from core.settings.tree import Settings
from tests.conftest import settings_for
from tests.support.redis_server import RedisServer


@pytest.fixture
def settings(redis_server: RedisServer) -> Settings:
    """Retention starts with the archive."""
    return settings_for(redis_server, retention={"start": "archive"})
