"""A backup set on disk: a folder of parts with a manifest that names their checksums.

Invariant: a set is written under another name and renamed once everything is on disk, so a killed
backup leaves nothing that looks whole. Before a restore changes anything, every part is verified.
"""

import gzip
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import orjson

from cli.terminal.failures import Failure

MANIFEST = "manifest.json"
FORMAT = 1
#: The suffix of a set that is being written.
PARTIAL = ".partial"

HASH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a set: its path in the set, checksum, size and number of records."""

    name: str
    sha256: str
    bytes: int
    records: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a set holds. `schema` is the version of the tables, `at` when Redis and SQL were read.

    `missing` are the ids of files whose bytes were deleted while the backup ran.
    """

    format: int
    penstock: str
    schema: str
    prefix: str
    at: str
    parts: list[Part]
    missing: list[str]

    def records(self, folder: str) -> int:
        """Return how many records the parts of a folder hold."""
        return sum(part.records for part in self.parts if part.name.startswith(folder))


class SetWriter:
    """Writes a set; `finish` makes it whole."""

    def __init__(self, target: Path) -> None:
        """Create the folder under its temporary name; what a killed backup left there is removed.

        Raises:
            Failure: the target exists.
        """
        if target.exists():
            raise Failure(f"{target} exists already", "name a folder that does not exist")
        self._target = target
        self.folder = target.with_name(target.name + PARTIAL)
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, mode=0o700)
        self._parts: list[Part] = []

    def write_lines(self, name: str) -> "LineWriter":
        """Open a part of one JSON value per line, compressed."""
        return LineWriter(self, name)

    def path(self, name: str) -> Path:
        """Return the path of a part, and create its folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def add(self, name: str, records: int) -> None:
        """Take a written file into the manifest."""
        path = self.folder / name
        path.chmod(0o600)
        _sync(path)
        self._parts.append(Part(name, _digest(path), path.stat().st_size, records))

    def finish(self, schema: str, prefix: str, at: datetime, missing: list[str]) -> Manifest:
        """Write the manifest and give the set its name."""
        manifest = Manifest(
            FORMAT,
            version("penstock"),
            schema,
            prefix,
            at.astimezone(UTC).isoformat(),
            self._parts,
            missing,
        )
        path = self.folder / MANIFEST
        path.write_bytes(orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2))
        path.chmod(0o600)
        _sync(path)
        for folder in (self.folder, *(sub for sub in self.folder.rglob("*") if sub.is_dir())):
            _sync(folder)
        self.folder.rename(self._target)
        _sync(self._target.parent)
        return manifest


class LineWriter:
    """Writes one part line by line; use it in a `with`."""

    def __init__(self, owner: SetWriter, name: str) -> None:
        self._owner = owner
        self._name = name
        self._records = 0
        self._file = gzip.open(owner.path(name), "wb", compresslevel=1)  # noqa: SIM115

    def write(self, value: Any) -> None:
        """Add one line."""
        self._file.write(orjson.dumps(value) + b"\n")
        self._records += 1

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Close the file; take it into the manifest unless an error ended the block."""
        self._file.close()
        if kind is None:
            self._owner.add(self._name, self._records)


def read_set(folder: Path) -> Manifest:
    """Read and verify a whole set.

    Raises:
        Failure: it is no set, another format, unfinished, damaged or incomplete.
    """
    if folder.name.endswith(PARTIAL):
        raise Failure(f"{folder} is a backup that did not finish")
    try:
        fields = orjson.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise Failure(f"{folder} is no backup: it has no {MANIFEST}") from None
    except orjson.JSONDecodeError:
        raise Failure(f"{folder / MANIFEST} is damaged") from None
    if fields.get("format") != FORMAT:
        raise Failure(
            f"the backup has format {fields.get('format')}, expected {FORMAT}",
            "restore it with the version of Penstock that made it",
        )
    parts = [Part(**part) for part in fields.pop("parts")]
    manifest = Manifest(**fields, parts=parts)
    for part in parts:
        _verify(folder, part)
    return manifest


def _verify(folder: Path, part: Part) -> None:
    path = folder / part.name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Failure(f"{part.name} is outside the backup")
    if not path.is_file():
        raise Failure(f"{path} is missing")
    if path.stat().st_size != part.bytes or _digest(path) != part.sha256:
        raise Failure(f"{path} is damaged: its checksum differs from the manifest's")


def read_lines(folder: Path, name: str) -> Iterator[Any]:
    """Yield the values of a part."""
    with gzip.open(folder / name, "rb") as file:
        for line in file:
            yield orjson.loads(line)


def in_groups(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of at most `size` values."""
    group: list[Any] = []
    for value in values:
        group.append(value)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
