"""The response to a submission: the prepared template equals the rendered view."""

from dataclasses import replace
from typing import Any

import pytest

from api.http.json_responses import accepted, just_accepted
from core.ids import new_id
from intake.submission import Admission
from jobs.fairness import ServiceTier
from jobs.job import JobSpec
from jobs.store.transitions import AcceptedJob, Submission

PLAIN = JobSpec("/v1/chat/completions", {"model": "org/m-1.5"}, request_id="req_1")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"service_tier": ServiceTier.FLEX},
        {"url": "/v1/completions", "on_disconnect": "cancel"},
        {"metadata": {"team": "red"}},
        {"webhook": "https://example.com/hook"},
        {"retry_of": "job_ab"},
        {"traceparent": f"00-{'4b' * 16}-00f067aa0ba902b7-01"},
        {"traceparent": "unreadable"},
        {"start_by": 1_800_000_000_500},
        {"deadline": 1_800_000_000_500},
    ],
    ids=lambda changes: ",".join(changes) or "plain",
)
@pytest.mark.parametrize("created", [1_763_800_000_000, 1_763_800_000_001, 1_763_800_000_120])
def test_an_answer_filled_in_is_the_answer_rendered(changes: dict[str, Any], created: int) -> None:
    limits = {name: changes[name] for name in ("start_by", "deadline") if name in changes}
    spec = replace(PLAIN, **{name: changes[name] for name in changes.keys() - limits.keys()})
    job_id = new_id("job")
    submission = Submission(job_id, "acme", "org/m-1.5", spec, **limits)
    admitted = Admission(submission, AcceptedJob(job_id, replayed=False, created=created))
    headers = {"X-Penstock-Job": job_id, "Preference-Applied": "respond-async"}

    filled, rendered = just_accepted(admitted, headers), accepted(admitted.job, headers)

    assert filled.body == rendered.body
    assert filled.status_code == rendered.status_code
    assert sorted(filled.raw_headers) == sorted(rendered.raw_headers)
