"""The export formats, and which module writes each."""

from collections.abc import AsyncGenerator, Callable
from enum import StrEnum
from importlib import import_module

from billing.exports.content import Chunk, Content, ExportRequest
from billing.invoices.invoices import Invoice


class Format(StrEnum):
    """The values of `--format` and `format=`."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    PDF = "pdf"


Writer = Callable[[Content], AsyncGenerator[Chunk, None]]

#: The file with the checksums of the others, in the form that `sha256sum --check` reads.
SUMS = "SHA256SUMS"


def writer_of(as_format: Format) -> Writer:
    """Return the function that writes a format; its libraries are large and are loaded only now."""
    writer: Writer = import_module(f"billing.exports.{as_format}_format").write
    return writer


def render_pdf(invoice: Invoice) -> bytes:
    """Return an invoice as a PDF document."""
    data: bytes = import_module("billing.exports.pdf_format").render(invoice)
    return data


def export_name(request: ExportRequest, as_format: Format, *, preliminary: bool) -> str:
    """Return the name of an export, such as `2026-10-csv` or `2026-10-acme-pdf-preliminary`."""
    parts = (request.month, request.account, as_format, "preliminary" if preliminary else None)
    return "-".join(part.replace("/", "_") for part in parts if part)


def sums_text(digests: dict[str, str]) -> bytes:
    """Return the content of the checksum file."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()


def read_sums(content: bytes) -> dict[str, str]:
    """Return the digest of each file that a checksum file names; lines of another form are none."""
    lines = (line.partition("  ") for line in content.decode(errors="replace").splitlines())
    return {name: digest for digest, _, name in lines if name and "/" not in name}
