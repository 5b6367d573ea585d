"""The job protocol as a small pure-Python model: the reference for the Lua scripts.

Invariant: no Redis, no clock. Times a script compares with are "passed" or "not passed", and the
test moves Redis and the model together from one to the other.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

TIER_SPAN = 10**13
#: Redis keeps four digits after the point, and a double fewer beside the highest tier.
TAG_ERROR = 0.02
#: What every append of the test reports.
INPUT_TOKENS = 3
TERMINAL = ("completed", "failed", "cancelled", "expired")


@dataclass
class ModelJob:
    """One job. `place` says in which set it waits, or that it runs; None once it has ended."""

    id: str
    account: str
    tier: int
    cap: int
    virtual_start: float
    score: float  # in the set where it waits
    base: float  # kept in its record for the next retry
    start_by: bool | None  # None: no limit; else whether it has passed
    deadline: bool | None
    watched: bool
    group: str = ""  # of a key with limits of its own
    group_cap: int = 0
    status: str = "queued"
    place: str | None = "ready"
    parked_by: str = ""
    fence: int = 0
    failures: int = 0
    seq: int = 0
    tokens: list[int] = field(default_factory=list)
    started: bool = False
    cancel: bool = False
    lease_over: bool = False
    retry_due: bool = False
    apart: str = ""
    claim_seq: int = 0
    lone: bool = False
    deaths: int = 0
    kills: int = 0
    losses: int = 0
    run_over: bool = False
    dead: bool = False
    estimate: float = 0
    weight: float = 1
    owed: float = 0  # what its account owed when it was put in order
    input: int = 0
    overdue: bool = False  # it has waited long for a worker that runs nothing

    @property
    def cleared(self) -> bool:
        """Whether output in this attempt cleared it of what it was suspected of."""
        return self.seq > self.claim_seq and self.apart != "whole"

    @property
    def terminal(self) -> bool:
        return self.status in TERMINAL


@dataclass(frozen=True)
class Limits:
    """The settings that the model knows."""

    max_queued: tuple[int, int, int]  # by tier
    max_per_account: int
    max_attempts: int
    max_deaths: int = 3
    max_kills: int = 2
    max_lone_stops: int = 5


class Model:
    """What every script does, one method each; the return values are the scripts' answers."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.jobs: dict[str, ModelJob] = {}
        self.forgotten: Counter[str] = Counter()  # usage of jobs deleted since
        self.keys: dict[tuple[str, str], tuple[object, str]] = {}
        self.virtual: dict[int, float] = {}
        self.finish_tag: dict[tuple[int, str], float] = {}
        self.owed: defaultdict[tuple[int, str], float] = defaultdict(float)
        self.settled: defaultdict[tuple[int, str], float] = defaultdict(float)
        self.credit: defaultdict[tuple[int, str], float] = defaultdict(float)
        self.tickets = 0
        self.mode = "open"
        self.others_next = False
        self.worker_lives = False

    # --- views ------------------------------------------------------------------------

    def at(self, place: str) -> list[ModelJob]:
        """Return the jobs at a place, in the order Redis keeps them."""
        found = [job for job in self.jobs.values() if job.place == place]
        return sorted(found, key=lambda job: (job.score, job.id))

    def by_id(self) -> list[ModelJob]:
        """Return all jobs in the order in which equal scores come."""
        return sorted(self.jobs.values(), key=lambda job: job.id)

    def parked(self, who: str) -> list[ModelJob]:
        """Return the jobs that wait for another of this account or group to end."""
        return [job for job in self.at("parked") if job.parked_by == who]

    def waiting(self) -> Counter[str]:
        """Count by account, by group, and all of them as '*'."""
        queued = [job for job in self.jobs.values() if job.status == "queued"]
        return _by_whom(queued) + Counter({"*": len(queued)})

    def running_by(self) -> Counter[str]:
        return _by_whom(self.at("running"))

    # --- scripts ----------------------------------------------------------------------

    def admit(self, job: ModelJob, key: str, body: object, most_of_key: int) -> str:
        known = self.keys.get((job.account, key)) if key else None
        if known is not None:
            return "replayed" if known[0] == body else "mismatch"
        if job.start_by or job.deadline:
            return "past"
        if self.mode in ("draining", "closed"):
            return "draining"
        return self._full(job, most_of_key) or "accepted"

    def _full(self, job: ModelJob, most_of_key: int) -> str:
        waiting = self.waiting()
        if waiting["*"] >= self.limits.max_queued[job.tier]:
            return "queue-full"
        if waiting[job.account] >= self.limits.max_per_account:
            return "account-full"
        if most_of_key and waiting[job.group] >= most_of_key:
            return "key-full"
        return ""

    def accept(self, job: ModelJob, key: str, body: object, score: float) -> None:
        """Add an admitted job; its estimate comes from the script."""
        owner, virtual = (job.tier, job.account), self.virtual.get(job.tier, 0.0)
        last = self.finish_tag.get(owner, 0.0) + self.owed[owner] - self.settled[owner]
        credit = self.credit.pop(owner, 0.0)
        if not self.waiting()[job.account]:
            last, credit = last - credit, 0.0
        job.virtual_start = round(max(virtual, last), 4)
        spent = min(credit, 0.9 * job.estimate / job.weight) if last > virtual else 0.0
        if last > virtual and credit > spent:
            self.credit[owner] = round(credit - spent, 4)
        tag = score - job.tier * TIER_SPAN
        assert tag > job.virtual_start
        assert abs(tag - (job.virtual_start + job.estimate / job.weight - spent)) < TAG_ERROR
        job.score = job.base = score
        job.owed = self.settled[owner] = self.owed[owner]
        self.finish_tag[owner] = tag
        self.jobs[job.id] = job
        self.tickets += 1
        if key:
            self.keys[job.account, key] = (body, job.id)

    def claim(self, n: int, *, occupancy: str = "empty") -> list[ModelJob]:
        claimed: list[ModelJob] = []
        if self.mode in ("paused", "closed"):
            return claimed
        if (alone := self._claim_apart(occupancy)) is not None:
            return alone
        self.others_next = False
        while len(claimed) < n and (ready := self.at("ready")):
            job = ready[0]
            if job.deadline or (job.start_by and not job.started):
                self.end(job, "expired")
            elif not job.started and self._move_back(job):
                continue
            elif job.cap and self.running_by()[job.account] >= job.cap:
                job.place, job.parked_by = "parked", job.account
            elif job.group_cap and self.running_by()[job.group] >= job.group_cap:
                job.place, job.parked_by = "parked", job.group
                self._unpark(job.account)
            else:
                claimed.append(self._start(job))
        return claimed

    def _move_back(self, job: ModelJob) -> bool:
        """Move a job back by what its account's jobs used beyond their estimates."""
        more = self.owed[job.tier, job.account] - job.owed
        if more <= 0:
            return False
        job.owed = self.owed[job.tier, job.account]
        job.score, job.base = job.score + more, job.base + more
        job.virtual_start += more
        return True

    def _settle(self, job: ModelJob) -> None:
        """Replace a job's estimate by what it used."""
        if job.started and not job.input:
            return
        used = job.input + len(job.tokens) if job.started else 0
        more = used - job.estimate
        account = self.owed if more > 0 else self.credit
        account[job.tier, job.account] += abs(more) / job.weight

    def apart_now(self) -> list[ModelJob]:
        """Return the jobs beside which nothing may be claimed now."""
        return [job for job in self.at("running") if job.apart and not job.cleared]

    def _claim_apart(self, occupancy: str) -> list[ModelJob] | None:
        """Claim one suspected job; the one worker that there is holds if one is overdue."""
        waiting = self.at("apart")
        if (self.others_next and self.at("ready")) or self.apart_now():
            return None
        for job in waiting[:16]:
            if job.deadline or (job.start_by and not job.started):
                self.end(job, "expired")
            elif not self._is_full(job):
                if occupancy == "empty":
                    return self._start_apart(job, lone=True)
                if job.overdue and occupancy == "begun" and job.apart == "start":
                    return self._start_apart(job, lone=False)
                if job.overdue:
                    return []
        return None

    def _start_apart(self, job: ModelJob, *, lone: bool) -> list[ModelJob]:
        self.others_next = True
        job.lone = lone
        return [self._start(job)]

    def _is_full(self, job: ModelJob) -> bool:
        running = self.running_by()
        of_account = bool(job.cap) and running[job.account] >= job.cap
        return of_account or (bool(job.group_cap) and running[job.group] >= job.group_cap)

    def _start(self, job: ModelJob) -> ModelJob:
        self.virtual[job.tier] = max(self.virtual.get(job.tier, 0.0), job.virtual_start)
        job.status, job.place = "in_progress", "running"
        job.fence += 1
        job.started = True
        job.lease_over = job.run_over = False
        self._event(job)
        job.claim_seq = job.seq
        return job

    def _event(self, job: ModelJob) -> None:
        job.seq += 1
        job.watched = False  # the test's watcher has no listener, so the script removes it

    def append(
        self, job: ModelJob, fence: int, after: int, tokens: list[int], *, restart: bool, end: str
    ) -> str:
        holds = job.fence == fence and job.status == "in_progress"
        count = int(restart) + int(bool(tokens))
        if not holds:
            return "finished" if job.fence == fence and job.terminal and end else "lost"
        watched = job.watched
        if job.seq == after:
            if restart:
                job.tokens.clear()
            job.tokens += tokens
            job.input = INPUT_TOKENS
            job.seq += count
        elif job.seq != after + count:
            return "lost"
        elif count:
            count = 0
        if end:
            self.end(job, end)
            return "finished"
        if count:
            job.watched = False
        return "cancel" if job.cancel else "watched" if watched else "ok"

    def finish(self, job: ModelJob, fence: int, status: str) -> bool:
        if job.fence == fence and job.status == "in_progress":
            self.end(job, status)
            return True
        return job.fence == fence and job.terminal

    def requeue(
        self, job: ModelJob, fence: int, *, delayed: bool, counted: bool, blame: str = ""
    ) -> str:
        if job.fence != fence or job.status != "in_progress":
            return "lost"
        if blame in {"engine", "unknown"}:
            return self._worker_stopped(job, engine_failed=blame == "engine")
        apart = self._held_against(job)
        if blame == "alone":
            apart = apart or "start"
        return self._back(job, delayed=delayed, counted=counted, apart=apart)

    def _held_against(self, job: ModelJob) -> str:
        if not job.cleared:
            return job.apart
        if job.apart:
            job.kills = job.losses = 0
        return ""

    def _worker_stopped(self, job: ModelJob, *, engine_failed: bool) -> str:
        begun, apart = job.seq > job.claim_seq, self._held_against(job)
        alone = bool(apart) and job.lone
        job.deaths += begun
        job.kills += alone and engine_failed
        job.losses += alone and not engine_failed
        enough = job.kills + job.losses >= self.limits.max_lone_stops
        if alone and (enough or job.kills >= self.limits.max_kills) and not job.cancel:
            job.dead = True
            self.end(job, "failed")
            return "failed"
        after = "" if begun else "alone" if apart else "start"
        if apart == "whole" or job.deaths >= self.limits.max_deaths:
            after = "whole"
        return self._back(job, delayed=False, counted=False, apart=after)

    def _back(self, job: ModelJob, *, delayed: bool, counted: bool, apart: str) -> str:
        if job.cancel:
            self.end(job, "cancelled")
            return "cancelled"
        job.failures += counted
        if counted and job.failures >= self.limits.max_attempts:
            job.dead = True
            self.end(job, "failed")
            return "failed"
        job.status, job.place, job.apart, job.overdue = "queued", None, apart, False
        self._unpark(job.group)
        self._unpark(job.account)
        score = job.base if counted else job.tier * TIER_SPAN
        if delayed:
            job.place, job.base, job.retry_due = "delayed", score, False
        else:
            self._ready(job, score)
        return "queued"

    def _ready(self, job: ModelJob, score: float) -> None:
        job.place, job.score = "apart" if job.apart else "ready", score
        if job.apart:
            job.score += job.kills + job.losses
        self.tickets += 1

    def _unpark(self, who: str) -> None:
        parked = self.parked(who) if who else []
        if parked:
            self._ready(parked[0], parked[0].score)

    def end(self, job: ModelJob, status: str) -> None:
        ran = job.place == "running"
        job.status, job.place = status, None
        self._event(job)
        self._settle(job)
        if ran:
            self._unpark(job.group)
            self._unpark(job.account)

    def cancel(self, job: ModelJob) -> str:
        if job.status == "queued":
            self.end(job, "cancelled")
            return "cancelled"
        if job.status == "in_progress":
            job.cancel = True
            return "cancelling"
        return job.status

    def purge(self) -> int:
        waiting = [job for job in self.jobs.values() if job.status == "queued"]
        for job in waiting:
            self.end(job, "cancelled")
        return len(waiting)

    def renew(self, held: list[tuple[ModelJob, int]]) -> list[str]:
        lost = []
        self.worker_lives = True
        for job, fence in held:
            if job.fence == fence and job.status == "in_progress":
                job.lease_over = False
            else:
                lost.append(job.id)
        return lost

    def sweep(self) -> None:
        for job in [job for job in self.by_id() if job.place == "running" and job.lease_over]:
            if self.worker_lives:
                self._back(job, delayed=False, counted=False, apart=self._held_against(job))
            else:
                self._worker_stopped(job, engine_failed=False)
        for job in [job for job in self.at("delayed") if job.retry_due]:
            self._ready(job, job.base)
        for job in self.by_id():
            if job.status == "queued" and (job.deadline or (job.start_by and not job.started)):
                self.end(job, "expired")
            elif job.status == "in_progress" and (job.deadline or job.run_over):
                job.fence += 1
                job.dead = not job.deadline
                self.end(job, "expired")
        for who in {job.parked_by for job in self.at("parked")}:
            head = self.parked(who)[0]
            if self.running_by()[who] < (head.group_cap if who == head.group else head.cap):
                self._unpark(who)
        self.tickets = max(self.tickets, len(self.at("ready")) + len(self.at("apart")))

    def delete(self, job: ModelJob) -> bool:
        if not job.terminal:
            return False
        del self.jobs[job.id]
        self.forgotten[job.id] += 1
        return True


def _by_whom(jobs: Iterable[ModelJob]) -> Counter[str]:
    return Counter(who for job in jobs for who in (job.account, job.group) if who)
