"""Add triggers that make prices, the ledger, invoices and the audit log append-only.

Expand: running code only adds rows to these tables. Each trigger takes a short exclusive lock. An
unpriced usage event may get its price, once. An invoice and its lines may change until it is
issued.
"""

from migrations.triggers import Guard

revision = "2026_11_22_1404"
down_revision = "2026_11_22_1403"
branch_labels = None
depends_on = None

ADDED_TO = ("price_versions", "prices", "gpu_rates", "adjustments", "audit_log")
MEASURED = (
    "job_id, account_id, key_id, model, service_tier, status, attempt, last_seq, input_tokens,"
    " cached_tokens, output_tokens, run_ms, created_at, started_at, finished_at, recorded_at,"
    " month, late, charged_input_tokens, charged_cached_tokens, charged_output_tokens"
)
PRICED = "price_version_id, currency, multiplier, input_amount, cached_amount, output_amount"
ISSUED = "EXISTS (SELECT 1 FROM invoices WHERE id = {row}.invoice_id AND issued_at IS NOT NULL)"

GUARDS = (
    *(Guard(table, event) for table in ADDED_TO for event in ("UPDATE", "DELETE", "TRUNCATE")),
    Guard("usage_events", f"UPDATE OF {MEASURED}"),
    Guard("usage_events", f"UPDATE OF {PRICED}", "OLD.price_version_id IS NOT NULL"),
    Guard("usage_events", "DELETE"),
    Guard("usage_events", "TRUNCATE"),
    Guard("invoices", "UPDATE", "OLD.issued_at IS NOT NULL"),
    Guard("invoices", "DELETE", "OLD.issued_at IS NOT NULL"),
    Guard("invoices", "TRUNCATE"),
    Guard("invoice_lines", "INSERT", ISSUED.format(row="NEW")),
    Guard("invoice_lines", "UPDATE", ISSUED.format(row="OLD")),
    Guard("invoice_lines", "DELETE", ISSUED.format(row="OLD")),
    Guard("invoice_lines", "TRUNCATE"),
)


def upgrade() -> None:
    """Create the guards."""
    for guard in GUARDS:
        guard.set()


def downgrade() -> None:
    """Drop the guards."""
    for guard in GUARDS:
        guard.drop()
