"""Job records survive encoding and decoding."""

import orjson

from jobs.job import JobSpec


def test_a_spec_comes_back_as_it_was() -> None:
    spec = JobSpec("/v1/completions", {"prompt": "hello"}, metadata={"a": "b"}, request_id="req_1")
    body = orjson.dumps(spec.body)
    assert JobSpec.decode(spec.encode(), body) == spec


def test_a_worker_reads_the_spec_of_a_newer_api() -> None:
    spec = JobSpec("/v1/completions", {"prompt": "hello"})
    newer = orjson.dumps({**orjson.loads(spec.encode()), "field_of_tomorrow": [1]})
    assert JobSpec.decode(newer, orjson.dumps(spec.body)) == spec


def test_a_worker_reads_the_spec_of_an_older_api() -> None:
    older = orjson.dumps({"url": "/v1/completions", "service_tier": "default"})
    assert JobSpec.decode(older, b"{}") == JobSpec("/v1/completions", {})
