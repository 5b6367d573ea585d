"""The result of a chaos run: broken invariants and figures."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from jobs.events import Event, from_stream
from jobs.job import Job
from jobs.result import fold
from jobs.store.job_store import JobStore
from jobs.store.usage_outbox import UsageEntry
from tests.chaos.load import ACCOUNTS, BAD, Wanted
from tests.support.following import ids_of
from workers.engines.simulated_text import expected_ids

PAGE = 200
SHOWN = 20


@dataclass
class Verdict:
    """Counts of broken invariants, and of faults that were survived."""

    jobs: int = 0
    lost: int = 0
    unasked: int = 0
    wrong_end: int = 0
    blamed: int = 0
    holes: int = 0
    repeated_tokens: int = 0
    missing_tokens: int = 0
    wrong_tokens: int = 0
    double_usage: int = 0
    missing_usage: int = 0
    wrong_usage: int = 0
    client_repeats: int = 0
    client_holes: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    continued: int = 0
    handed_on: int = 0
    reconnected: int = 0
    poison: int = 0
    max_gap_s: float = 0.0
    first_tokens: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        """How many promises were broken."""
        counts = (
            self.lost, self.unasked, self.wrong_end, self.blamed, self.holes, self.repeated_tokens,
            self.missing_tokens, self.wrong_tokens, self.double_usage, self.missing_usage,
            self.wrong_usage, self.client_repeats, self.client_holes,
        )  # fmt: skip
        return sum(counts) + len(self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures."""
        figures = {**self.__dict__, "ends": dict(self.ends), "problems": self.problems[:SHOWN]}
        del figures["first_tokens"]
        first = {f"p{share}_first_token_s": self.first_token(share) for share in (50, 95)}
        return {**figures, **first, "max_gap_s": round(self.max_gap_s, 2)}

    def first_token(self, share: int) -> float:
        """Return a percentile of the seconds from a good account's submit to its first token."""
        ordered = sorted(self.first_tokens)
        return round(ordered[len(ordered) * share // 100], 2) if ordered else 0.0


async def judge(store: JobStore, wanted: dict[str, Wanted]) -> Verdict:
    """Check every job against what its client asked and saw."""
    verdict = Verdict(jobs=len(wanted))
    redis: Any = store.redis
    entries = await redis.xrange(store.keys.outbox)
    usage: dict[str, list[UsageEntry]] = {}
    for entry_id, raw in entries:
        entry = UsageEntry.from_stream(entry_id, raw)
        usage.setdefault(entry.job_id, []).append(entry)
    there: set[str] = set()
    for account in ACCOUNTS:
        ids = await redis.zrange(store.keys.account_jobs(account), 0, -1)
        there |= {raw.decode() for raw in ids}
    verdict.unasked = len(there - wanted.keys())
    if verdict.unasked:
        verdict.problems.append(f"not asked for: {sorted(there - wanted.keys())[:5]}")
    ids = sorted(wanted)
    for at in range(0, len(ids), PAGE):
        page = ids[at : at + PAGE]
        pipe: Any = redis.pipeline(transaction=False)
        for job_id in page:
            pipe.hgetall(store.keys.job(job_id))
            pipe.xrange(store.keys.log(job_id))
        found = await pipe.execute()
        for job_id, record, log in zip(page, found[::2], found[1::2], strict=True):
            if not record:
                verdict.lost += 1
                verdict.problems.append(f"{job_id} is gone")
                continue
            events = [from_stream(entry_id, fields) for entry_id, fields in log]
            job = Job.from_hash(job_id, record)
            _judge(verdict, wanted[job_id], job, events, usage.get(job_id, []))
    return verdict


def _judge(
    verdict: Verdict, wanted: Wanted, job: Job, log: list[Event], usage: list[UsageEntry]
) -> None:
    verdict.ends[job.status] += 1
    before = verdict.violations
    if not job.status.is_terminal:
        verdict.lost += 1
        verdict.problems.append(f"{job.id} never ended: {job}")
        return
    verdict.wrong_end += job.status not in wanted.may_end
    if wanted.error:
        verdict.poison += 1
        verdict.wrong_end += (job.error or {}).get("code") != wanted.error
    else:
        verdict.blamed += job.failures
        if wanted.first_token_at is not None and wanted.account not in ACCOUNTS[-BAD:]:
            verdict.first_tokens.append(wanted.first_token_at - wanted.asked_at)
    verdict.holes += [event.seq for event in log] != list(range(1, job.seq + 1))
    finished = [event for event in log if event.type == "finished"]
    verdict.wrong_end += len(finished) != 1 or log[-1] is not finished[0]
    _judge_tokens(verdict, wanted, job, log)
    verdict.double_usage += max(0, len(usage) - 1)
    verdict.missing_usage += not usage
    if usage:
        verdict.wrong_usage += (usage[0].status, usage[0].output_tokens) != (
            job.status,
            job.output_tokens,
        )
    _judge_attempts(verdict, log)
    if wanted.followed:
        _judge_client(verdict, wanted, job, log)
    if verdict.violations > before and len(verdict.problems) < SHOWN:
        tail = [(event.seq, event.type, event.data[:80]) for event in log[-4:]]
        verdict.problems.append(f"{job.id} {job.status} {job.error} {wanted.may_end} {tail}")


def _judge_tokens(verdict: Verdict, wanted: Wanted, job: Job, log: list[Event]) -> None:
    result = fold(log)
    delivered = 0
    for index in range(int(wanted.body.get("n") or 1)):
        script = list(expected_ids(wanted.body, index))
        ids = ids_of(result, index) if index in result.choices else []
        delivered += len(ids)
        if job.status == "completed":
            verdict.repeated_tokens += max(0, len(ids) - len(script))
            verdict.missing_tokens += max(0, len(script) - len(ids))
        verdict.wrong_tokens += ids != script[: len(ids)]
    verdict.wrong_usage += delivered != job.output_tokens


def _judge_attempts(verdict: Verdict, log: list[Event]) -> None:
    """Count jobs that changed hands, and those that went on after tokens they had."""
    starts = [i for i, event in enumerate(log) if event.type == "started"]
    first = next((i for i, event in enumerate(log) if event.type == "delta"), len(log))
    verdict.handed_on += len(starts) > 1
    verdict.continued += any(start > first for start in starts)


def _judge_client(verdict: Verdict, wanted: Wanted, job: Job, log: list[Event]) -> None:
    verdict.client_repeats += len(wanted.seqs) - len(set(wanted.seqs))
    verdict.client_holes += len(set(range(1, job.seq + 1)) - set(wanted.seqs))
    result = fold(log)
    ids = ids_of(result) if 0 in result.choices else []
    verdict.wrong_tokens += wanted.token_ids != ids
    verdict.reconnected += wanted.connections > 1
    verdict.max_gap_s = max(verdict.max_gap_s, wanted.longest_gap)
