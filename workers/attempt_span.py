"""Trace spans of one attempt, written when it ends, in the time of Redis's clock.

`queue` (the wait), then `attempt` with `claim` (until the engine has rendered the prompt),
`prefill` (until the first token) and `decode` inside. The sweeper writes the span of an attempt
whose lease was lost: this worker may have been frozen and would write it a second time.
"""

import time

from core.spans import Attributes
from core.tracing import active
from workers.attempt import Attempt

OPERATIONS = {"/v1/chat/completions": "chat", "/v1/completions": "text_completion"}
MILLION = 1_000_000


def write_wait(attempt: Attempt) -> None:
    """Write the span of the job's wait in the queue before this attempt."""
    tracer, parent = active(), attempt.trace
    if tracer is not None and parent is not None:
        claimed = attempt.claimed
        job: Attributes = {"penstock.job.id": attempt.id, "penstock.attempt": claimed.attempt}
        times = (claimed.queued * MILLION, claimed.now * MILLION)
        tracer.writer.write("queue", parent.child(), parent, times, job)


def write_attempt(attempt: Attempt, model: str, worker: str, outcome: str, error: str) -> None:
    """Write the spans of an attempt that ended; nothing if its job is not traced."""
    tracer, parent = active(), attempt.trace
    if tracer is None or parent is None or outcome == "lost":
        return
    claimed = attempt.claimed
    write = tracer.writer.write
    job: Attributes = {"penstock.job.id": attempt.id, "penstock.attempt": claimed.attempt}
    began, ended = claimed.now * MILLION, _at(attempt, time.monotonic())
    own = parent.attempt(attempt.id, claimed.fence)
    before = (parent.attempt(attempt.id, claimed.fence - 1),) if claimed.fence > 1 else ()
    attributes = {
        **job,
        "gen_ai.operation.name": OPERATIONS.get(claimed.spec.url, claimed.spec.url),
        "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": attempt.input_tokens,
        "gen_ai.usage.output_tokens": attempt.output_tokens,
        "penstock.account": claimed.account,
        "penstock.worker": worker,
        "penstock.outcome": outcome,
        "penstock.continued_tokens": claimed.output_tokens,
    }
    write("attempt", own, parent, (began, ended), attributes, "consumer", error=error, links=before)
    for name, first, last in _parts(attempt, began, ended):
        write(name, own.child(), own, (first, last), job)


def _parts(attempt: Attempt, began: int, ended: int) -> list[tuple[str, int, int]]:
    """Return name, start and end of each phase: claim, prefill, decode."""
    accepted = ended if attempt.accepted_at is None else _at(attempt, attempt.accepted_at)
    parts = [("claim", began, accepted)]
    if attempt.accepted_at is not None:
        first = ended if attempt.first_token_at is None else _at(attempt, attempt.first_token_at)
        parts.append(("prefill", accepted, max(accepted, first)))
        if attempt.first_token_at is not None:
            parts.append(("decode", max(accepted, first), ended))
    return parts


def _at(attempt: Attempt, monotonic: float) -> int:
    """Convert this process's monotonic seconds to Unix nanoseconds of Redis's clock."""
    return attempt.claimed.now * MILLION + int((monotonic - attempt.claimed_at) * 1e9)
