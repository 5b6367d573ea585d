"""The commands of docs/api.md's section on accounts work as written."""

import asyncio
import os
import re
import subprocess

from tests.integration.api.conftest import MODEL, Keys, RunningApi
from tests.support.processes import ROOT


async def test_the_commands_of_the_page_run(api: RunningApi, keys: Keys) -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    own = "".join(one for one in sections if one.startswith(("#", "Accounts, users, keys\n")))
    blocks = re.findall(r"^```sh\n(.*?)^```", own, re.MULTILINE | re.DOTALL)
    given = os.environ | {"URL": api.url, "KEY": keys.acme, "MODEL": MODEL}
    script = "set -euo pipefail\n" + "\n".join(blocks)
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            ["bash", "-c", script], env=given, capture_output=True, text=True, check=False
        )
    )
    assert done.returncode == 0, done.stderr
    assert "urn:penstock:problem" not in done.stdout, done.stdout
    assert done.stdout.count("204") >= 2, "the key is revoked, and the session is over"
    for word in ('"rotated_from":"key_', '"max_queued":100', '"object":"caller"', "signed_out"):
        assert word in done.stdout, word
