"""Runs reconciliation and reads its findings."""

from billing.reconcile.findings import Difference, FindingKind, Findings
from billing.reconcile.run import reconcile
from core.db.database import Database
from jobs.store.job_store import JobStore


async def look(store: JobStore, database: Database, month: str, listed: int = 20) -> Findings:
    """Reconcile a month; return the findings, of which `listed` are kept in full."""
    findings = Findings(listed)
    await reconcile(store, database, month, findings)
    return findings


def only(findings: Findings, *kinds: FindingKind) -> list[Difference]:
    """Return the listed findings of these kinds; fail if there are others.

    Drift is planted in the ledger without its triggers, so the counters of spending may differ too.
    """
    assert set(findings.counts) | {FindingKind.SPENDING} == {*kinds, FindingKind.SPENDING}, (
        findings.listed
    )
    return [one for one in findings.listed if one.kind in kinds]
