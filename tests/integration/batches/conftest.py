"""The fixtures of the API's tests: a batch is created over HTTP."""

from tests.integration.api.conftest import (
    api,
    client,
    database,
    database_url,
    files_url,
    keys,
    settings,
    start_api,
    store,
)

__all__ = [
    "api",
    "client",
    "database",
    "database_url",
    "files_url",
    "keys",
    "settings",
    "start_api",
    "store",
]
