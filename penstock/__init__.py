"""The Python client of Penstock: what programs of users import.

Invariant: it imports nothing of the pipeline, only the standard library and httpx2, so that it can
be installed alone.
"""

from penstock.api_calls import JobOptions
from penstock.api_objects import BatchInfo, BatchResult, FileInfo, JobEvent, JobInfo, TokenUsage
from penstock.async_batches import AsyncBatches
from penstock.async_client import AsyncPenstock
from penstock.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    BatchFailedError,
    ConflictError,
    ConnectionFailedError,
    ContextLengthExceededError,
    EventsLostError,
    GoneError,
    IdempotencyMismatchError,
    InvalidJobError,
    InvalidSignatureError,
    JobCancelledError,
    JobExpiredError,
    JobFailedError,
    JobUnsuccessfulError,
    NoBudgetError,
    NoResultYetError,
    NotFoundError,
    PenstockError,
    PermissionDeniedError,
    ProblemDetails,
    QueueFullError,
    RateLimitedError,
    ServerError,
    ServerTimeoutError,
    StreamBrokenError,
    UnavailableError,
    WaitTimeoutError,
)
from penstock.retries import RetryPolicy
from penstock.sync_batches import Batches
from penstock.sync_client import Penstock
from penstock.webhook_signature import verify_webhook

__all__ = [
    "ApiError",
    "AsyncBatches",
    "AsyncPenstock",
    "AuthenticationError",
    "BadRequestError",
    "BatchFailedError",
    "BatchInfo",
    "BatchResult",
    "Batches",
    "ConflictError",
    "ConnectionFailedError",
    "ContextLengthExceededError",
    "EventsLostError",
    "FileInfo",
    "GoneError",
    "IdempotencyMismatchError",
    "InvalidJobError",
    "InvalidSignatureError",
    "JobCancelledError",
    "JobEvent",
    "JobExpiredError",
    "JobFailedError",
    "JobInfo",
    "JobOptions",
    "JobUnsuccessfulError",
    "NoBudgetError",
    "NoResultYetError",
    "NotFoundError",
    "Penstock",
    "PenstockError",
    "PermissionDeniedError",
    "ProblemDetails",
    "QueueFullError",
    "RateLimitedError",
    "RetryPolicy",
    "ServerError",
    "ServerTimeoutError",
    "StreamBrokenError",
    "TokenUsage",
    "UnavailableError",
    "WaitTimeoutError",
    "verify_webhook",
]
