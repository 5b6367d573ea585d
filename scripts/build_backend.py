"""The build backend of pyproject.toml: setuptools' editable install, and nothing else.

Invariant: no archive of Penstock can be built. A wheel would put packages with everyday names
(`api`, `jobs`, `cli`) into other environments, where they would hide packages of the same name.
"""

# ruff: noqa: INP001 - build tools import it by its path

from __future__ import annotations

from typing import NoReturn

from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    prepare_metadata_for_build_editable,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "prepare_metadata_for_build_editable",
]

REFUSAL = (
    "Penstock is an application and is not packaged as a wheel or an sdist. "
    "Run `make install` in its tree, or build an image with scripts/build_images.sh."
)


def build_wheel(*_: object, **__: object) -> NoReturn:
    """Refuse a wheel.

    Raises:
        SystemExit: Always, with the sentence that build tools show.
    """
    raise SystemExit(REFUSAL)


def build_sdist(*_: object, **__: object) -> NoReturn:
    """Refuse a source archive.

    Raises:
        SystemExit: Always, with the sentence that build tools show.
    """
    raise SystemExit(REFUSAL)
