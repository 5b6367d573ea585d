"""The webhook events of finished jobs: status, usage and cost, never the prompt or the output."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from billing.money import plain, total
from core.db.bulk_insert import Row
from jobs.archive.archived_job import ArchivedJob
from webhooks.events import Listener, NewEvent, Receiver

AMOUNTS = ("input_amount", "cached_amount", "output_amount")


def job_events(
    rows: Sequence[Row], archived: Mapping[str, ArchivedJob], known: Sequence[Listener]
) -> list[NewEvent]:
    """Return the events of finished jobs that have a receiver. Pure.

    Args:
        rows: rows of the ledger, as `usage_row` makes them.
        archived: the jobs' records by id; a missing one means an event without metadata.
        known: the endpoints of these accounts.

    Returns:
        One event per job, with an id derived from the job's id, so that a repeat adds nothing.
    """
    listening = {listener.account for listener in known}
    events = []
    for row in rows:
        job = archived.get(row["job_id"])
        if job is not None and job.quiet:
            continue
        own = None if job is None else _job_receiver(job, row["status"])
        if own is not None or row["account_id"] in listening:
            events.append(_event(row, job, own))
    return events


def _job_receiver(job: ArchivedJob, status: str) -> Receiver | None:
    """Return the URL that the job's request named, if it asked for this event."""
    if job.webhook is None or not job.webhook.wants(f"job.{status}"):
        return None
    return Receiver("", job.webhook.url)


def _event(row: Row, job: ArchivedJob | None, own: Receiver | None) -> NewEvent:
    job_id = row["job_id"]
    return NewEvent(
        account=row["account_id"],
        type=f"job.{row['status']}",
        data=_usage_fields(row) | _record_fields(job),
        id=f"evt_{job_id.removeprefix('job_')}",
        at=row["finished_at"],
        own=own,
    )


def _usage_fields(row: Row) -> dict[str, Any]:
    started = row["started_at"]
    path = f"/v1/jobs/{row['job_id']}"
    return {
        "id": row["job_id"],
        "object": "job",
        "status": row["status"],
        "model": row["model"],
        "service_tier": row["service_tier"],
        "created_at": row["created_at"].timestamp(),
        "started_at": started and started.timestamp(),
        "completed_at": row["finished_at"].timestamp(),
        "attempt": row["attempt"],
        "usage": {
            "input_tokens": row["input_tokens"],
            "cached_input_tokens": row["cached_tokens"],
            "output_tokens": row["output_tokens"],
        },
        "cost": _cost(row),
        "error": None,
        "metadata": {},
        "urls": {"self": path, "result": f"{path}/result"},
    }


def _cost(row: Row) -> dict[str, str] | None:
    if row["price_version_id"] is None:
        return None
    return {"total": plain(total(*(row[name] for name in AMOUNTS))), "currency": row["currency"]}


def _record_fields(job: ArchivedJob | None) -> dict[str, Any]:
    """Return the fields that only the job's record has; none if it could not be archived."""
    if job is None:
        return {}
    record = orjson.loads(job.record)
    spec = orjson.loads(record["spec"])
    error = orjson.loads(record["error"]) if record.get("error") else None
    return {
        "url": spec.get("url"),
        "metadata": spec.get("metadata", {}),
        "retry_of": spec.get("retry_of"),
        "error": error and {name: error.get(name) for name in ("code", "message")},
    }
