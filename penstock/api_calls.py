"""Each call of the API as a value: what is sent, and how the answer is read.

Invariant: a call that is `repeatable` has the same effect once or often, so that it may be sent
again after a lost answer; every submission is, since it has an idempotency key.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypedDict, TypeVar

from penstock.api_objects import BatchInfo, FileInfo, JobInfo

T = TypeVar("T")
Json = Mapping[str, Any]

CHAT = "/v1/chat/completions"
#: The most jobs or batches of one page.
PAGE_SIZE = 100


class JobOptions(TypedDict, total=False):
    """The options of a submission; those that are left out have the server's default.

    Attributes:
        url: The route that the body is for; by default chat completions.
        service_tier: The tier of the job.
        deadline: When the job expires unless it has finished: RFC 3339 or Unix seconds.
        start_by: When the job expires unless it has started.
        webhook: The URL that is called when the job ends, or `{"url", "events"}`.
        metadata: Your own fields.
        on_disconnect: What happens when the last reader of its stream disconnects.
        idempotency_key: The same key and body return the same job; by default a new one.
    """

    url: str
    service_tier: str
    deadline: str | float
    start_by: str | float
    webhook: str | Json
    metadata: Json
    on_disconnect: Literal["continue", "cancel"]
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file to upload: its bytes, or the path that they are read from while they are sent."""

    name: str
    content: bytes | Path


@dataclass(frozen=True, slots=True)
class ApiCall(Generic[T]):
    """One request, and how to read its answer."""

    method: str
    path: str
    read: Callable[[Json], T]
    params: Mapping[str, str | int | float] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Json | None = None
    file: FilePart | None = None
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class ListPage(Generic[T]):
    """One page of a list; `after` is the cursor of the next one, None on the last."""

    items: tuple[T, ...]
    after: str | None


def identifier(named: JobInfo | BatchInfo | FileInfo | str) -> str:
    """Return the id of an object, or the id itself.

    Raises:
        ValueError: It could change the path of the request.
    """
    found = named if isinstance(named, str) else named.id
    if not found or not all(char.isalnum() or char in "_-" for char in found):
        raise ValueError(f"{found!r} is no id: expected letters, digits, - and _")
    return found


def submit(body: Json, options: JobOptions) -> ApiCall[JobInfo]:
    """Submit a job."""
    given = dict(options)
    key = str(given.pop("idempotency_key", None) or uuid.uuid4())
    content = {"url": CHAT, **given, "body": body}
    headers = {"Idempotency-Key": key}
    return ApiCall("POST", "/v1/jobs", JobInfo.parse, headers=headers, body=content)


def read_job(job: JobInfo | str, wait_seconds: float = 0) -> ApiCall[JobInfo]:
    """Read a job, once it has ended or the time is over."""
    params = {"wait": wait_seconds} if wait_seconds else {}
    return ApiCall("GET", f"/v1/jobs/{identifier(job)}", JobInfo.parse, params=params)


def cancel_job(job: JobInfo | str) -> ApiCall[JobInfo]:
    """Cancel a job; repeating it changes nothing."""
    return ApiCall("POST", f"/v1/jobs/{identifier(job)}/cancel", JobInfo.parse)


def retry_job(job: JobInfo | str) -> ApiCall[JobInfo]:
    """Run a job again; repeating it returns the same new job."""
    return ApiCall("POST", f"/v1/jobs/{identifier(job)}/retry", JobInfo.parse)


def list_jobs(status: str | None, after: str | None) -> ApiCall[ListPage[JobInfo]]:
    """Read one page of the jobs."""
    params = _page_params(after)
    if status is not None:
        params["status"] = status
    return ApiCall("GET", "/v1/jobs", _page_of(JobInfo.parse), params=params)


def upload(content: bytes | str | Path, name: str | None) -> ApiCall[FileInfo]:
    """Upload a file of requests. A repeat would store it twice."""
    data = Path(content) if isinstance(content, str) else content
    given = name or (data.name if isinstance(data, Path) else "batch.jsonl")
    part = FilePart(given, data)
    return ApiCall("POST", "/v1/files", FileInfo.parse, file=part, repeatable=False)


def create_batch(
    file: FileInfo | str,
    endpoint: str,
    completion_window: str,
    metadata: Json | None,
    idempotency_key: str | None,
) -> ApiCall[BatchInfo]:
    """Create a batch of a file."""
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    body: dict[str, Any] = {
        "input_file_id": identifier(file),
        "endpoint": endpoint,
        "completion_window": completion_window,
    }
    if metadata is not None:
        body["metadata"] = metadata
    return ApiCall("POST", "/v1/batches", BatchInfo.parse, headers=headers, body=body)


def read_batch(batch: BatchInfo | str) -> ApiCall[BatchInfo]:
    """Read a batch."""
    return ApiCall("GET", f"/v1/batches/{identifier(batch)}", BatchInfo.parse)


def cancel_batch(batch: BatchInfo | str) -> ApiCall[BatchInfo]:
    """Cancel a batch; repeating it changes nothing."""
    return ApiCall("POST", f"/v1/batches/{identifier(batch)}/cancel", BatchInfo.parse)


def list_batches(after: str | None) -> ApiCall[ListPage[BatchInfo]]:
    """Read one page of the batches."""
    return ApiCall("GET", "/v1/batches", _page_of(BatchInfo.parse), params=_page_params(after))


def stream_path(job: JobInfo | str) -> str:
    """Return the path of a job's stream."""
    return f"/v1/jobs/{identifier(job)}/stream"


def content_path(file: FileInfo | str) -> str:
    """Return the path of a file's content."""
    return f"/v1/files/{identifier(file)}/content"


def _page_params(after: str | None) -> dict[str, str | int | float]:
    params: dict[str, str | int | float] = {"limit": PAGE_SIZE}
    if after is not None:
        params["after"] = after
    return params


def _page_of(read: Callable[[Json], T]) -> Callable[[Json], ListPage[T]]:
    def page(raw: Json) -> ListPage[T]:
        items = tuple(read(one) for one in raw["data"])
        return ListPage(items, raw["last_id"] if raw["has_more"] else None)

    return page
