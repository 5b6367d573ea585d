"""Makes a backup set, and restores one.

Redis and SQL are read as of one moment: the snapshot of SQL is taken while Redis accepts no writes.
What the ledger records later is still in the outbox of the backup, and what it recorded before is
in SQL, so no job is lost or billed twice. Files never change once written and are copied last.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.backup.backup_set import Manifest, SetWriter, read_lines, read_set
from cli.backup.file_data import delete_files, dump_files, has_files, load_files
from cli.backup.redis_data import delete_keys, dump_keys, has_keys, load_keys, paused_writes
from cli.backup.sql_data import dump_tables, has_rows, load_tables, snapshot
from cli.terminal.failures import Failure
from core.db.database import Database
from core.db.schema_version import downgrade, revisions, upgrade
from core.redis.client import connect
from core.settings.tree import Settings
from files.object_store import ObjectStore

REDIS_PART = "redis.jsonl.gz"

Say = Callable[[str], None]


def _same_version(settings: Settings) -> str:
    current, head = revisions(settings.database)
    if current is None or current != head:
        raise Failure(
            f"the tables are at {current or 'nothing'}, this program is made for {head}",
            "penstock db upgrade, or the version of Penstock that these tables belong to",
        )
    return current


async def make_backup(settings: Settings, target: Path, pause_seconds: float, say: Say) -> Manifest:
    """Write a backup set.

    Args:
        settings: Where SQL, Redis and files are.
        target: The folder to make.
        pause_seconds: How long Redis may accept no writes, at most.
        say: Shows progress.

    Raises:
        Failure: the folder exists, the tables are of another version, or Redis took too long.
        StoreUnavailable, DatabaseUnavailable, FilesUnavailable: nothing was made.
    """
    schema = _same_version(settings)
    writer = SetWriter(target)
    database = Database(settings.database, "backup", bounded=False)
    redis: Any = connect(settings.redis)
    try:
        async with paused_writes(redis, pause_seconds):
            at = datetime.now(UTC)
            async with snapshot(database) as connection:
                say("reading Redis")
                with writer.write_lines(REDIS_PART) as part:
                    await dump_keys(redis, settings.redis.prefix, part)
                took = (datetime.now(UTC) - at).total_seconds()
                if took > pause_seconds:
                    raise Failure(
                        f"reading Redis took {took:.1f} s, and writes were paused for only"
                        f" {pause_seconds:g} s: the backup would not be consistent",
                        f"repeat with --pause {2 * took:.0f}",
                    )
                await redis.client_unpause()
                say("reading SQL")
                await dump_tables(connection, writer)
                say("copying files")
                missing = await dump_files(connection, ObjectStore(settings.files), writer)
    finally:
        await redis.aclose()
        await database.close()
    return writer.finish(schema, settings.redis.prefix, at, missing)


async def restore(settings: Settings, folder: Path, say: Say, *, force: bool) -> Manifest:
    """Verify a set and write it into SQL, Redis and the file store.

    Files and Redis come first and SQL last, in one transaction: until it is committed no account
    exists, so that nothing can run on a half restored set.

    Args:
        settings: Where to write it.
        folder: The set.
        say: Shows progress.
        force: Delete what is there, before.

    Raises:
        Failure: the set is damaged or of another version, or something is there already.
        StoreUnavailable, DatabaseUnavailable, FilesUnavailable: a part was written; repeat the
            restore with `force`.
    """
    say("verifying the backup")
    manifest = read_set(folder)
    _check_schema(settings, manifest)
    database = Database(settings.database, "restore", bounded=False)
    redis: Any = connect(settings.redis)
    object_store, prefix = ObjectStore(settings.files), settings.redis.prefix
    try:
        found = await _occupied(database, redis, object_store, prefix)
        if found and not force:
            raise Failure(
                f"there is something already: {', '.join(found)}",
                "restore into an empty place, or delete what is there with --force",
            )
        if found:
            say("deleting what is there")
            await database.close()
            downgrade(settings.database)
            upgrade(settings.database)
            await delete_keys(redis, prefix)
            await delete_files(object_store)
        say("writing files")
        await load_files(object_store, folder, manifest)
        say("writing Redis")
        await load_keys(redis, prefix, read_lines(folder, REDIS_PART))
        say("writing SQL")
        await load_tables(database, lambda name: read_lines(folder, name), manifest.missing)
    finally:
        await redis.aclose()
        await database.close()
    return manifest


def _check_schema(settings: Settings, manifest: Manifest) -> None:
    current, head = revisions(settings.database)
    if manifest.schema != head:
        raise Failure(
            f"the backup has tables of version {manifest.schema}, this program of {head}",
            f"restore it with Penstock {manifest.penstock}, then upgrade",
        )
    if current != head:
        upgrade(settings.database)


async def _occupied(
    database: Database, redis: Any, object_store: ObjectStore, prefix: str
) -> list[str]:
    found = []
    if (table := await has_rows(database)) is not None:
        found.append(f"SQL has rows in {table}")
    if await has_keys(redis, prefix):
        found.append(f"Redis has keys of {prefix}")
    if await has_files(object_store):
        found.append("the file store has files")
    return found
