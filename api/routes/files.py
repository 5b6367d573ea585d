"""Routes for files."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from api.http.cursor import check_list_cursor
from api.http.deps import AppServices, CurrentCaller
from api.http.json_responses import json_response
from api.openapi.route_docs import error_responses, multipart_of
from api.streaming.download import Download
from batches.file_references import FILE_REFERENCES
from core.db.tables.base import now
from core.ids import new_id
from files import repository
from files.object_cleanup import FileSweeper
from files.upload import Upload
from wire.views.files import file_object
from wire.views.page import list_page

router = APIRouter(prefix="/v1/files", tags=["files"])

#: Size of the pieces in which a file is read from the object store.
PIECE_BYTES = 256 * 1024
PURPOSE = r"^[a-z_-]{1,16}$"
FIELDS = {
    "file": {"type": "string", "format": "binary", "description": "The content of the file."},
    "purpose": {"type": "string", "enum": ["batch"], "description": "What the file is for."},
    "expires_after[anchor]": {
        "type": "string",
        "enum": ["created_at"],
        "description": "From when the seconds count.",
    },
    "expires_after[seconds]": {
        "type": "integer",
        "minimum": 3600,
        "maximum": 2592000,
        "description": "After how many seconds the file expires.",
    },
}


@router.post(
    "",
    openapi_extra=multipart_of(FIELDS, required=["file", "purpose"]),
    responses=error_responses(400, 401, 403, 408, 413, 503, 507),
)
async def upload_file(request: Request, caller: CurrentCaller, services: AppServices) -> Response:
    """Upload a file. It is stored completely or not at all."""
    limits = services.settings.files
    await repository.check_quota(services.database, caller.account, limits.account_bytes)
    upload = Upload(
        request.headers.get("content-type"),
        request.stream(),
        limits.max_bytes,
        limits.upload_bytes_per_second,
    )
    file_id = new_id("file")
    with services.upload_limit.take(caller.account):
        await services.object_store.put(repository.object_name(file_id), upload.pieces())
    created = now()
    row = repository.new_row(
        file_id,
        caller.account,
        upload.purpose,
        upload.filename,
        upload.bytes,
        upload.sha256,
        created,
        created + (upload.expires_after or limits.kept),
    )
    async with services.database.write() as connection:
        await repository.add_files(connection, [row])
    return json_response(
        file_object(await repository.find_file(services.database, file_id, caller.account))
    )


@router.get("", responses=error_responses(400, 401, 403, 503))
async def list_files(
    caller: CurrentCaller,
    services: AppServices,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    after: Annotated[str | None, Query(description="`last_id` of the previous page")] = None,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(pattern=PURPOSE)] = None,
) -> Response:
    """List this account's files."""
    found = await repository.list_files(
        services.database,
        caller.account,
        limit=limit + 1,
        after=None if after is None else check_list_cursor(after, "file"),
        order=order,
        purpose=purpose,
    )
    return json_response(list_page(found, limit, file_object))


@router.get("/{file_id}", responses=error_responses(401, 403, 404, 503))
async def read_file(file_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return a file's metadata."""
    return json_response(
        file_object(await repository.find_file(services.database, file_id, caller.account))
    )


@router.get("/{file_id}/content", responses=error_responses(401, 403, 404, 503))
async def read_content(file_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return a file's content."""
    row = await repository.find_file(services.database, file_id, caller.account)
    pieces = services.object_store.pieces(repository.object_name(row.id), row.bytes, PIECE_BYTES)
    seconds = services.settings.stream.send_timeout_seconds
    return await Download.begin(
        pieces, row.filename, seconds, "application/octet-stream", size=row.bytes
    )


@router.delete("/{file_id}", responses=error_responses(401, 403, 404, 503))
async def delete_file(file_id: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Delete a file. A batch that reads it can still finish."""
    await repository.hide_file(services.database, file_id, caller.account)
    sweeper = FileSweeper(services.database, services.object_store, FILE_REFERENCES)
    await sweeper.delete_removable(file_id)
    return json_response({"id": file_id, "object": "file", "deleted": True})
