"""Compares finished jobs in Redis, and the output that their event logs hold, with the ledger.

Jobs that finish during the comparison are no false alarms: their usage is in the outbox until the
ledger has it. So a job missing in the ledger is looked up in the outbox and, if it is not there any
more, in the ledger again. Invariant: only a job found in neither counts as not recorded.
"""

from itertools import islice

from billing.months import month_of
from billing.reconcile.findings import FindingKind, Findings
from billing.reconcile.jobs import compare, compare_entry, ledger_rows, not_recorded
from billing.reconcile.repair import LedgerRepair, is_whole
from billing.unix_time import from_unix_ms
from core.db.database import Database
from core.db.tables.usage import UsageEventRow
from core.errors import JobGone, JobNotFound
from jobs.store.job_store import JobStore
from jobs.store.scan import ScannedJob, scan_jobs
from jobs.store.usage_outbox import Outbox, UsageEntry

#: Jobs missing in the ledger that are looked up together; each time the whole outbox is read.
MISSING_AT_ONCE = 10_000
LOOKED_UP_AT_ONCE = 500


class LiveJobs:
    """One comparison of Redis with the ledger, for the jobs that finished in a month."""

    def __init__(
        self,
        store: JobStore,
        outbox: Outbox,
        database: Database,
        findings: Findings,
        repair: LedgerRepair | None = None,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._database = database
        self._findings = findings
        self._repair = repair
        self._missing: dict[str, ScannedJob] = {}

    async def compare(self, month: str) -> None:
        """Compare every job once."""
        async for page in scan_jobs(self._store):
            ended = [seen for seen in page if _ended_in(seen, month)]
            running = [seen for seen in page if not seen.job.status.is_terminal]
            rows = await ledger_rows(self._database, [seen.job.id for seen in ended + running])
            for seen in ended:
                self._compare(seen, rows.get(seen.job.id))
            for seen in running:
                if seen.job.id in rows:
                    await self._recorded_too_early(seen.job.id, rows[seen.job.id].status)
            self._findings.count("live jobs", len(ended))
            if len(self._missing) >= MISSING_AT_ONCE:
                await self._decide_missing()
        await self._decide_missing()
        await self._count_waiting()

    def _compare(self, seen: ScannedJob, row: UsageEventRow | None) -> None:
        if row is None:
            self._missing[seen.job.id] = seen
        else:
            compare(seen.job, row, self._findings)
        self._check_log(seen)

    def _check_log(self, seen: ScannedJob) -> None:
        job, log = seen.job, seen.log
        if log is None:
            return
        findings = self._findings
        findings.count("logs")
        findings.differ(FindingKind.LOG, job.id, "last event", job.seq, log.last_seq)
        if not log.complete:
            findings.add(FindingKind.LOG, job.id, "events", f"{log.last_seq} in a row", log.events)
        findings.differ(
            FindingKind.LOG, job.id, "output_tokens", job.output_tokens, log.output_tokens
        )
        announced = log.usage and log.usage["output_tokens"]
        findings.differ(
            FindingKind.LOG, job.id, "announced output_tokens", job.output_tokens, announced
        )

    async def _recorded_too_early(self, job_id: str, recorded: str) -> None:
        """Note a running job that the ledger has already, unless it just ended."""
        try:
            job = await self._store.get(job_id, None)
        except (JobGone, JobNotFound):
            return
        if not job.status.is_terminal:
            self._findings.add(FindingKind.NOT_ENDED, job_id, "status", recorded, job.status.value)

    async def _decide_missing(self) -> None:
        """Decide for each job missing in the ledger: in the outbox, recorded by now, or lost."""
        missing, self._missing = self._missing, {}
        if not missing:
            return
        async for page in self._outbox.waiting():
            for entry in page:
                if isinstance(entry, UsageEntry) and entry.job_id in missing:
                    compare_entry(missing.pop(entry.job_id).job, entry, self._findings)
        left = iter(missing.values())
        while group := list(islice(left, LOOKED_UP_AT_ONCE)):
            rows = await ledger_rows(self._database, [seen.job.id for seen in group])
            lost = [seen for seen in group if seen.job.id not in rows]
            whole = [seen.job for seen in lost if is_whole(seen)] if self._repair else []
            if self._repair and whole:
                await self._repair.record(whole)
                self._findings.count("lost jobs recorded", len(whole))
                rows |= await ledger_rows(self._database, [job.id for job in whole])
            for seen in group:
                if seen.job.id in rows:
                    compare(seen.job, rows[seen.job.id], self._findings)
                else:
                    not_recorded(seen.job, self._findings)

    async def _count_waiting(self) -> None:
        waiting = await self._outbox.backlog()
        self._findings.count("outbox entries waiting for the ledger", waiting)


def _ended_in(seen: ScannedJob, month: str) -> bool:
    return seen.job.status.is_terminal and month_of(from_unix_ms(seen.job.finished)) == month
