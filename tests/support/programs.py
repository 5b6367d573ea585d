"""Programs that are not in wheels: `.ci/run` installs them, a developer may lack them."""

import os
import shutil

import pytest


def require(path: str | None, what: str) -> str:
    """Return a program's path; without it, skip the test locally and fail it in CI."""
    if path:
        return path
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"{what} is required here and was not found")
    pytest.skip(f"{what} was not found: .ci/run installs it")


def program(name: str) -> str:
    """Return a program's path, also from the folders of root."""
    return require(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin"), name)
