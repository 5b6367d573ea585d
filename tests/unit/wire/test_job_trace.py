"""A job says in which trace it was submitted."""

from billing.pricing.cost_cache import JobCost
from core.ids import new_id
from jobs.job import Job, JobSpec
from wire.views.job import job_object

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def shown(traceparent: str | None) -> object:
    spec = JobSpec(url="/v1/completions", body={}, traceparent=traceparent)
    raw = {b"spec": spec.encode(), b"status": b"queued", b"account": b"acme", b"queue": b"m"}
    return job_object(Job.from_hash(new_id("job"), raw), JobCost())["trace_id"]


def test_a_traced_job_names_its_trace_and_another_none() -> None:
    assert shown(f"00-{TRACE}-00f067aa0ba902b7-01") == TRACE
    assert shown(None) is None
    assert shown("no trace") is None
