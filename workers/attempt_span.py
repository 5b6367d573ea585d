"""The spans of one attempt, written down when it is over, on Redis's clock.

The wait, then the attempt with claim (until the engine has the rendered prompt), prefill (until
the first token) and decode inside. An attempt whose lease was lost is the sweeper's to write down:
this worker may have been frozen, and would write it twice.
"""

import time

from core.spans import Attributes
from core.tracing import active
from workers.attempt import Attempt

OPERATIONS = {"/v1/chat/completions": "chat", "/v1/completions": "text_completion"}
MILLION = 1_000_000


def write_wait(run: Attempt) -> None:
    """Write how long a job waited for this attempt, as soon as it is known."""
    tracer, parent = active(), run.trace
    if tracer is not None and parent is not None:
        claimed = run.claimed
        job: Attributes = {"penstock.job.id": run.id, "penstock.attempt": claimed.attempt}
        times = (claimed.queued * MILLION, claimed.now * MILLION)
        tracer.writer.write("queue", parent.child(), parent, times, job)


def write_attempt(run: Attempt, model: str, worker: str, outcome: str, error: str) -> None:
    """Write an attempt's spans, where its job is traced."""
    tracer, parent = active(), run.trace
    if tracer is None or parent is None or outcome == "lost":
        return
    claimed = run.claimed
    write = tracer.writer.write
    job: Attributes = {"penstock.job.id": run.id, "penstock.attempt": claimed.attempt}
    began, ended = claimed.now * MILLION, _at(run, time.monotonic())
    own = parent.attempt(run.id, claimed.fence)
    before = (parent.attempt(run.id, claimed.fence - 1),) if claimed.fence > 1 else ()
    attributes = {
        **job,
        "gen_ai.operation.name": OPERATIONS.get(claimed.spec.url, claimed.spec.url),
        "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": run.input_tokens,
        "gen_ai.usage.output_tokens": run.output_tokens,
        "penstock.account": claimed.account,
        "penstock.worker": worker,
        "penstock.outcome": outcome,
        "penstock.continued_tokens": claimed.output_tokens,
    }
    write("attempt", own, parent, (began, ended), attributes, "consumer", error=error, links=before)
    for name, first, last in _parts(run, began, ended):
        write(name, own.child(), own, (first, last), job)


def _parts(run: Attempt, began: int, ended: int) -> list[tuple[str, int, int]]:
    """Cut the attempt where the engine accepted it and where its first token came."""
    accepted = ended if run.accepted_at is None else _at(run, run.accepted_at)
    parts = [("claim", began, accepted)]
    if run.accepted_at is not None:
        first = ended if run.first_token_at is None else _at(run, run.first_token_at)
        parts.append(("prefill", accepted, max(accepted, first)))
        if run.first_token_at is not None:
            parts.append(("decode", max(accepted, first), ended))
    return parts


def _at(run: Attempt, monotonic: float) -> int:
    """Return when something happened, in Unix nanoseconds of Redis's clock."""
    return run.claimed.now * MILLION + int((monotonic - run.claimed_at) * 1e9)
