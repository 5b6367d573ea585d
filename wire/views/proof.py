"""The usage proof of a job: ledger row, price and invoice, with hashes of the stored output."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from billing.money import plain
from billing.pricing.rating import Price
from billing.reports.proof import Proof
from jobs.result import JobResult
from jobs.result_digest import delivered
from wire.views.cost import cost_object

#: Where the delivered output is still stored.
OutputStore = Literal["log", "archive"]

NOT_STORED = "the output is no longer stored, so its hashes cannot be computed"
NO_PRICE = "no price is set for this job yet"
NOTHING_CHARGED = "nothing is charged, so no invoice line covers this job"
NOT_CLOSED = "the month is not closed yet, so there is no invoice"


def proof_object(proof: Proof, kept_in: OutputStore | None, result: JobResult) -> dict[str, Any]:
    """Build the proof object.

    Args:
        proof: Ledger row, price, cost and invoice of the job.
        kept_in: Where the job's output is still stored; None if it is not.
        result: The output; empty if it is not stored.
    """
    row = proof.row
    return {
        "object": "usage.proof",
        "job_id": row.job_id,
        "account": row.account_id,
        "key": row.key_id,
        "model": row.model,
        "service_tier": row.service_tier,
        "status": row.status,
        "attempt": row.attempt,
        "weights": row.weights or None,
        "created_at": row.created_at.timestamp(),
        "started_at": _seconds(row.started_at),
        "finished_at": row.finished_at.timestamp(),
        "run_seconds": row.run_ms / 1000,
        "usage": {
            "input_tokens": row.input_tokens,
            "cached_input_tokens": row.cached_tokens,
            "output_tokens": row.output_tokens,
            "vectors": row.vectors or 0,
        },
        "charged": proof.charged._asdict(),
        "delivered": {
            "kept_in": kept_in,
            "events": row.last_seq,
            "choices": [asdict(choice) for choice in delivered(result)],
        },
        "price": None if proof.price is None else _price(proof.price),
        "cost": cost_object(proof.cost),
        "ledger": {
            "id": row.job_id,
            "recorded_at": row.recorded_at.timestamp(),
            "month": row.month,
            "late": row.late,
        },
        "invoice": None
        if proof.invoice is None
        else {"number": proof.invoice.number, "issued_at": proof.invoice.at.timestamp()},
        "notes": _notes(proof, kept_in),
    }


def _price(price: Price) -> dict[str, Any]:
    kinds = ("input", "cached_input", "output")
    return {
        "version": price.id,
        "currency": price.currency,
        "valid_from": price.valid_from.timestamp(),
        "per_million": {kind: plain(getattr(price, kind)) for kind in kinds},
    }


def _notes(proof: Proof, kept_in: OutputStore | None) -> list[str]:
    notes = [] if kept_in else [NOT_STORED]
    if not any(proof.charged):
        return [*notes, NOTHING_CHARGED]
    if proof.cost is None:
        notes.append(NO_PRICE)
    return notes if proof.invoice else [*notes, NOT_CLOSED]


def _seconds(instant: datetime | None) -> float | None:
    return None if instant is None else instant.timestamp()
