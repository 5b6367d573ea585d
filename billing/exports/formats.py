"""The formats there are, and how a month is written in each."""

from collections.abc import AsyncGenerator, Callable
from enum import StrEnum

from billing.exports.as_csv import write_csv
from billing.exports.as_json import write_json
from billing.exports.as_parquet import write_parquet
from billing.exports.as_pdf import write_pdf
from billing.exports.content import Chunk, Content, Wanted


class Format(StrEnum):
    """What `--format` and `format=` take."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    PDF = "pdf"


Writer = Callable[[Content], AsyncGenerator[Chunk, None]]

WRITERS: dict[Format, Writer] = {
    Format.CSV: write_csv,
    Format.JSON: write_json,
    Format.PARQUET: write_parquet,
    Format.PDF: write_pdf,
}

#: Lists the files with their checksums, as `sha256sum --check` reads it.
SUMS = "SHA256SUMS"


def export_name(wanted: Wanted, as_format: Format, *, preliminary: bool) -> str:
    """Return what an export is called: `2026-10-csv`, `2026-10-acme-pdf-preliminary`."""
    parts = (wanted.month, wanted.account, as_format, "preliminary" if preliminary else None)
    return "-".join(part.replace("/", "_") for part in parts if part)


def sums_text(digests: dict[str, str]) -> bytes:
    """Return the text of the file of checksums."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()
