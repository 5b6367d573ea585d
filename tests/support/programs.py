"""Programs that no wheel brings: `.ci/run` installs them, a developer's machine may lack them."""

import os
import shutil

import pytest


def require(path: str | None, what: str) -> str:
    """Return the path, or skip locally and fail in CI."""
    if path:
        return path
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"{what} is required here and was not found")
    pytest.skip(f"{what} was not found: .ci/run installs it")


def program(name: str) -> str:
    """Return where a program is, also where only root looks for it."""
    return require(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin"), name)
