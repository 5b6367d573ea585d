"""The commands of docs/api.md's section on accounts work as written."""

import asyncio

from tests.integration.api.conftest import MODEL, Keys, RunningApi
from tests.support.commands import bash, page_commands
from tests.support.environment import inherited


async def test_the_commands_of_the_page_run(api: RunningApi, keys: Keys) -> None:
    commands = page_commands("Accounts, users, keys")
    env = inherited() | {"URL": api.url, "KEY": keys.acme, "MODEL": MODEL}
    done = await asyncio.to_thread(bash, *commands, env=env)
    assert done.returncode == 0, done.stderr
    assert "urn:penstock:problem" not in done.stdout, done.stdout
    assert done.stdout.count("204") >= 2, "the key is revoked, and the session is over"
    for word in ('"rotated_from":"key_', '"max_queued":100', '"object":"caller"', "signed_out"):
        assert word in done.stdout, word
