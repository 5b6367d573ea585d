"""Every metric of every process, in one place. Labels are bounded: never a job or account.

Invariant: a gauge that cannot be read is absent, never 0: an autoscaler would take 0 for idle.
"""

from prometheus_client import Counter, Gauge, Histogram

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)

jobs_submitted = Counter("penstock_jobs_submitted_total", "Jobs accepted", ["model", "tier"])
jobs_refused = Counter("penstock_jobs_refused_total", "Jobs refused at the door", ["code"])
jobs_ended = Counter("penstock_jobs_ended_total", "Jobs a worker ended", ["model", "status"])
attempts = Counter("penstock_attempts_total", "Attempts by how they ended", ["model", "outcome"])
queue_wait = Histogram(
    "penstock_queue_wait_seconds", "From submit to first start", ["model"], buckets=LATENCY_BUCKETS
)
time_to_first_token = Histogram(
    "penstock_time_to_first_token_seconds",
    "From claim to the first logged token",
    ["model"],
    buckets=LATENCY_BUCKETS,
)
run_time = Histogram(
    "penstock_run_seconds", "One attempt, claim to end", ["model"], buckets=LATENCY_BUCKETS
)
tokens = Counter("penstock_tokens_total", "Tokens by kind", ["model", "kind"])
batch_size = Histogram(
    "penstock_claim_batch_size",
    "Jobs taken by one claim",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)
step_events = Histogram(
    "penstock_step_events",
    "Events written by one append",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
running = Gauge("penstock_running_jobs", "Jobs this worker runs", ["model"])
kv_cache_usage = Gauge("penstock_kv_cache_ratio", "KV cache in use, 0 to 1", ["model"])
leases_lost = Counter("penstock_leases_lost_total", "Leases lost to another attempt", ["model"])
breaker_open = Gauge("penstock_breaker_open", "1 while the engine's breaker is open", ["model"])
dead_tickets = Counter("penstock_dead_tickets_total", "Messages that were no tickets")
swept = Counter("penstock_swept_total", "What the sweeper repaired", ["model", "kind"])
streams = Gauge("penstock_sse_connections", "Open event streams")
ledger_events = Counter(
    "penstock_ledger_events_total",
    "Outbox entries by what became of them: recorded, duplicate, unpriced, set_aside",
    ["outcome"],
)
ledger_unpriced = Counter(
    "penstock_ledger_unpriced_total", "Usage recorded without a price, to be rated later", ["model"]
)
outbox_entries = Gauge("penstock_outbox_entries", "Usage not yet in the ledger", ["group"])
outbox_age = Gauge("penstock_outbox_age_seconds", "How long the oldest of it has waited", ["group"])
holds_swept = Counter("penstock_holds_swept_total", "Holds whose job left no usage behind")
budget_warnings = Counter("penstock_budget_warnings_total", "Percentages that budgets reached")
