"""Exports of a closed month: the same bytes each time, atomic, safe for spreadsheets."""

import csv
import hashlib
import io
import json
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select, text

from billing.errors import ExportFailed, InvalidMonth, MonthNotClosed
from billing.exports.content import EVENTS, Content, ExportRequest, open_content
from billing.exports.csv_line import csv_line
from billing.exports.export_folder import Exported, export_month
from billing.exports.formats import SUMS, Format, writer_of
from billing.exports.zip_stream import zip_export
from billing.invoices.credits import NewAdjustment, adjust, credit
from billing.months import month_of
from core.db.database import Database
from core.db.tables.base import table_of
from core.db.tables.invoices import ExportRow
from core.runtime.child_process import ChildProcess
from core.settings.billing import DatabaseSettings
from jobs.status import Status
from tests.support.commands import PENSTOCK, started
from tests.support.months import (
    MONTH,
    NOON,
    SELLER,
    a_past_price,
    amounts,
    an_account,
    close,
    events,
    files_of,
    usage_entry,
    used,
)
from tests.support.waiting import eventually

FULLWIDTH = "\uff1d1+1"
JOB = "job_0199e71b0a00" + "0" * 19


async def a_closed_month(database: Database) -> None:
    """Close a month with two accounts, an adjustment and jobs that cost nothing."""
    await an_account(database, billing_name="=HYPERLINK(1)", billing_address="1 Dam Rd\nWeir")
    await a_past_price(database)
    await a_past_price(database, '+cmd|"x",y')
    await a_past_price(database, FULLWIDTH)
    at = NOON.replace(microsecond=7_000)
    first = usage_entry(job_id=f"{JOB}1", finished=at, weights="0123456789abcdef")
    odd = usage_entry(job_id=f"{JOB}2", model='+cmd|"x",y', key_id="")
    failed = usage_entry(job_id=f"{JOB}3", status=Status.FAILED)
    wide = usage_entry(job_id=f"{JOB}4", model=FULLWIDTH)
    await used(database, first, odd, failed, wide, usage_entry(account="zeta"))
    await adjust(database, NewAdjustment("acme", Decimal("-1.5"), "@sum(1)", MONTH))
    await close(database)


async def export(
    database: Database,
    out: Path,
    as_format: Format = Format.CSV,
    wanted: ExportRequest | None = None,
) -> Exported:
    return await export_month(database, wanted or ExportRequest(MONTH), as_format, out, SELLER)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def table(files: dict[str, bytes], name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(files[name].decode())))


async def test_usage_is_the_same_text_from_every_database(database: Database) -> None:
    await a_closed_month(database)
    text = (await files_of(database, writer_of(Format.CSV)))["usage.csv"].decode()

    price = (await events(database))[0].price_version_id
    assert f"{JOB}1" in text
    first = next(line for line in text.splitlines() if f"{JOB}1" in line)
    assert first == (
        f'"acme",{JOB}1,"key_1","m",default,completed,false,2026-10-15T11:59:58.007Z,'
        f"2026-10-15T12:00:00.007Z,900,1000,200,500,800,200,500,{price},USD,1.00,"
        "0.00016000000000,0.00001000000000,0.00015000000000,0123456789abcdef"
    )
    unknown = next(line for line in text.splitlines() if f"{JOB}2" in line)
    assert unknown.endswith("0.00015000000000,"), "nothing stands where they are not known"


async def test_no_cell_of_a_spreadsheet_is_a_formula(database: Database) -> None:
    await a_closed_month(database)
    files = await files_of(database, writer_of(Format.CSV))

    assert table(files, "summary.csv")[0]["billing_name"] == "'=HYPERLINK(1)"
    assert {row["description"] for row in table(files, "lines.csv")} >= {"'@sum(1)"}
    models = [row["model"] for row in table(files, "usage.csv")]
    assert '\'+cmd|"x",y' in models
    assert f"'{FULLWIDTH}" in models
    assert table(files, "lines.csv")[-4]["amount"] == "-1.500000"  # a number, not a text


async def test_all_formats_hold_the_same_month(database: Database) -> None:
    await a_closed_month(database)
    as_csv = await files_of(database, writer_of(Format.CSV))
    as_json = await files_of(database, writer_of(Format.JSON))
    parquet = await files_of(database, writer_of(Format.PARQUET))

    exact = amounts(await events(database))
    usage = [json.loads(line) for line in as_json["usage.jsonl"].splitlines()]
    columns = ("input_amount", "cached_amount", "output_amount")
    for rows in (
        table(as_csv, "usage.csv"),
        usage,
        pq.read_table(io.BytesIO(parquet["usage.parquet"])).to_pylist(),
    ):
        assert sum(Decimal(row[name]) for row in rows for name in columns) == exact
        assert [row["job_id"] for row in rows] == sorted(row["job_id"] for row in rows)
    document = json.loads(as_json["invoices.json"])
    assert document["preliminary"] is False
    shown = {invoice["number"]: invoice["total"] for invoice in document["invoices"]}
    summed = {row["number"]: row["total"] for row in table(as_csv, "summary.csv")}
    stored = pq.read_table(io.BytesIO(parquet["summary.parquet"])).to_pylist()
    for number, total in summed.items():
        assert Decimal(shown[number]) == Decimal(total)
        lines = [row for row in table(as_csv, "lines.csv") if row["number"] == number]
        assert sum(Decimal(row["amount"]) for row in lines) == Decimal(total)
    assert {row["number"]: row["total"] for row in stored} == {
        number: Decimal(total) for number, total in summed.items()
    }


@pytest.mark.parametrize("as_format", list(Format))
async def test_the_same_export_twice_is_the_same_bytes(
    database: Database, tmp_path: Path, as_format: Format
) -> None:
    await a_closed_month(database)
    first = await export(database, tmp_path / "a", as_format)
    await credit(database, "INV-2026-10-0002", Decimal("0.0001"), "later, so not in this month")
    again = await export(database, tmp_path / "a", as_format)
    elsewhere = await export(database, tmp_path / "b", as_format)

    assert (first.unchanged, again.unchanged, elsewhere.unchanged) == (False, True, False)
    names = sorted(path.name for path in first.folder.iterdir())
    for name in names:
        assert (first.folder / name).read_bytes() == (elsewhere.folder / name).read_bytes()
    assert names_in(tmp_path / "a") == [f"{MONTH}-{as_format}"]
    sums = dict(line.split("  ")[::-1] for line in (first.folder / SUMS).read_text().splitlines())
    assert sorted([*sums, SUMS]) == names
    for file in first.files:
        data = (first.folder / file.name).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (file.sha256, file.size)
        assert sums[file.name] == file.sha256
    async with database.read() as connection:
        noted = (await connection.execute(select(table_of(ExportRow)))).all()
    assert len(noted) == 3 * len(first.files)


@pytest.mark.parametrize("damage", ["changed", "removed"])
async def test_an_export_that_was_damaged_is_written_again_and_said(
    database: Database, tmp_path: Path, damage: str
) -> None:
    await a_closed_month(database)
    first = await export(database, tmp_path)
    file = first.folder / "lines.csv"
    content = file.read_bytes()
    if damage == "changed":
        file.write_bytes(content.replace(b"0", b"1", 1))
    else:
        file.unlink()

    again = await export(database, tmp_path)

    assert (again.unchanged, again.restored) == (False, ("lines.csv",))
    assert file.read_bytes() == content
    assert (await export(database, tmp_path)).unchanged


async def test_an_export_deletes_no_file_that_is_not_its_own(
    database: Database, tmp_path: Path
) -> None:
    await a_closed_month(database)
    folder = (await export(database, tmp_path)).folder
    (folder / "notes.txt").write_text("paid on Monday")
    with pytest.raises(ExportFailed, match=r"move them: notes\.txt"):
        await export(database, tmp_path)
    assert (folder / "notes.txt").read_text() == "paid on Monday"
    assert {"lines.csv", "notes.txt", SUMS} <= set(names_in(folder))


async def test_a_zip_holds_what_the_folder_holds(database: Database, tmp_path: Path) -> None:
    await a_closed_month(database)
    folder = (await export(database, tmp_path)).folder
    archives = []
    for _ in range(2):
        async with database.read() as connection:
            opened = await open_content(connection, ExportRequest(MONTH), SELLER)
            pieces = [piece async for piece in zip_export(opened, writer_of(Format.CSV))]
        archives.append(b"".join(pieces))

    assert archives[0] == archives[1]
    with zipfile.ZipFile(io.BytesIO(archives[0])) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            path.name: path.read_bytes() for path in folder.iterdir()
        }


async def test_an_account_gets_only_its_own(database: Database) -> None:
    await a_closed_month(database)
    files = await files_of(database, writer_of(Format.CSV), ExportRequest(MONTH, "zeta"))

    assert [row["account_id"] for row in table(files, "summary.csv")] == ["zeta"]
    assert {row["account_id"] for row in table(files, "usage.csv")} == {"zeta"}
    assert await files_of(database, writer_of(Format.PDF), ExportRequest(MONTH, "nobody")) == {}


async def test_a_month_that_is_not_closed_is_exported_only_as_preliminary(
    database: Database, tmp_path: Path
) -> None:
    await a_past_price(database)
    await used(database)
    with pytest.raises(MonthNotClosed):
        await export(database, tmp_path)
    with pytest.raises(InvalidMonth):
        await export(database, tmp_path, wanted=ExportRequest("2026-1", preliminary=True))
    assert not [name for name in names_in(tmp_path) if MONTH in name]

    wanted = ExportRequest(MONTH, preliminary=True)
    exported = await export(database, tmp_path, wanted=wanted)

    assert exported.folder.name == f"{MONTH}-csv-preliminary"
    assert "PRELIMINARY-2026-10-0001" in (exported.folder / "summary.csv").read_text()
    await close(database)
    assert not (await export(database, tmp_path, wanted=wanted)).preliminary


async def test_a_closed_month_with_nothing_in_it_exports_headings(
    database: Database, tmp_path: Path
) -> None:
    await close(database)
    folder = (await export(database, tmp_path)).folder
    assert all(
        len((folder / f"{name}.csv").read_text().splitlines()) == 1
        for name in ("summary", "lines", "usage")
    )
    files = await files_of(database, writer_of(Format.JSON))
    assert json.loads(files["invoices.json"])["invoices"] == []


async def test_more_usage_than_fits_a_piece_is_exported_whole(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Content, "rows_at_once", 7)
    await a_past_price(database)
    await used(database, *(usage_entry() for _ in range(50)))
    await close(database)
    for as_format, name in ((Format.CSV, "usage.csv"), (Format.JSON, "usage.jsonl")):
        files = await files_of(database, writer_of(as_format))
        assert len(files[name].splitlines()) == 50 + (as_format is Format.CSV)


async def test_something_else_of_that_name_is_left_alone(
    database: Database, tmp_path: Path
) -> None:
    await close(database)
    mine = tmp_path / "out" / f"{MONTH}-csv" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep me")
    with pytest.raises(ExportFailed, match="not an export"):
        await export(database, tmp_path / "out")
    assert mine.read_text() == "keep me"
    assert names_in(tmp_path / "out") == [f"{MONTH}-csv"]


def exporting(settings: DatabaseSettings, tmp_path: Path, out: Path, *limited: str) -> ChildProcess:
    """Start an export; `limited` are a command and its arguments that run it."""
    words = ["bills", "export", "--month", MONTH, "--format", "csv", "--out", str(out)]
    return started(
        [*limited, str(PENSTOCK), *words],
        tmp_path / "export.log",
        PENSTOCK_DATABASE__URL=settings.url.get_secret_value(),
    )


async def test_a_full_disk_leaves_nothing_half_written(
    database: Database, database_settings: DatabaseSettings, tmp_path: Path
) -> None:
    await a_past_price(database)
    await used(database, *(usage_entry() for _ in range(200)))
    await close(database)
    out = tmp_path / "out"

    # The largest file that the process may write: its write fails as on a full disk.
    process = exporting(database_settings, tmp_path, out, "prlimit", "--fsize=20000")

    assert process.wait(60) == 1, process.output()
    assert "File too large" in process.output()
    assert names_in(out) == []


async def test_an_export_that_is_killed_leaves_nothing_under_its_name(
    database: Database, database_settings: DatabaseSettings, tmp_path: Path
) -> None:
    await a_past_price(database)
    await used(database, *(usage_entry() for _ in range(20_000)))
    await close(database)
    folder = tmp_path / "out" / f"{MONTH}-csv"

    async def begun() -> bool:
        return folder.parent.exists() and bool(names_in(folder.parent))

    process = exporting(database_settings, tmp_path, folder.parent)
    await eventually(begun, 30)
    process.kill()

    # It may have been quicker than the signal: then it is whole.
    if folder.exists():
        assert len((folder / "usage.csv").read_text().splitlines()) == 20_001
    else:
        assert all(name.startswith(".") for name in names_in(folder.parent))
    again = await export(database, folder.parent)
    assert {file.rows for file in again.files} == {0, 20_000}


async def test_times_in_csv_are_utc_whatever_the_time_zone_of_the_connection(
    database: Database,
) -> None:
    await used(database, usage_entry(finished=NOON))
    query = select(csv_line(("finished_at",), sqlite=database.is_sqlite)).select_from(EVENTS)
    async with database.read() as connection:
        if not database.is_sqlite:
            await connection.execute(text("SET LOCAL TIME ZONE 'Asia/Tokyo'"))
        assert await connection.scalar(query) == "2026-10-15T12:00:00Z"


async def test_a_preliminary_export_has_the_credit_notes_with_all_decimals_of_their_currency(
    database: Database, tmp_path: Path
) -> None:
    await a_past_price(database, input=Decimal(1000))
    await used(database)
    (invoice,) = (await close(database)).invoices
    note = await credit(database, invoice.id, Decimal("0.1"), "an outage")
    await an_account(database, "zeta")
    await adjust(database, NewAdjustment("zeta", Decimal(2), "a charge", note.month))
    wanted = ExportRequest(month_of(datetime.now(UTC)), preliminary=True)
    exported = await export(database, tmp_path, Format.JSON, wanted)

    shown = json.loads((exported.folder / "invoices.json").read_text())["invoices"]
    month = note.month
    assert [(one["number"], one["due"]) for one in shown] == [
        (note.number, "-0.10"),
        (f"PRELIMINARY-{month}-0001", "2.00"),
    ]
