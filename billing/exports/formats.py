"""The formats there are, and how a month is written in each."""

from collections.abc import AsyncGenerator, Callable
from enum import StrEnum
from importlib import import_module

from billing.exports.content import Chunk, Content, ExportRequest
from billing.invoices.invoices import Invoice


class Format(StrEnum):
    """What `--format` and `format=` take."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    PDF = "pdf"


Writer = Callable[[Content], AsyncGenerator[Chunk, None]]

#: Lists the files with their checksums, as `sha256sum --check` reads it.
SUMS = "SHA256SUMS"


def writer_of(as_format: Format) -> Writer:
    """Return what writes a format; only now its libraries are loaded, which are large."""
    writer: Writer = import_module(f"billing.exports.{as_format}_format").write
    return writer


def print_pdf(invoice: Invoice) -> bytes:
    """Return an invoice as a PDF."""
    data: bytes = import_module("billing.exports.pdf_format").render(invoice)
    return data


def export_name(request: ExportRequest, as_format: Format, *, preliminary: bool) -> str:
    """Return what an export is called: `2026-10-csv`, `2026-10-acme-pdf-preliminary`."""
    parts = (request.month, request.account, as_format, "preliminary" if preliminary else None)
    return "-".join(part.replace("/", "_") for part in parts if part)


def sums_text(digests: dict[str, str]) -> bytes:
    """Return the text of the file of checksums."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()
