"""Every metric that code counts or times; what is read at scrape time stands in the collectors.

Invariant: labels are bounded (never a job, an account or anything a client made up), units are in
the names, and what cannot be read is absent, never 0: an autoscaler would take 0 for idle.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: What each kind of process shows beside what all of them do; whoever takes jobs in shows `API`.
API = CollectorRegistry()
WORKER = CollectorRegistry()
CONTROL = CollectorRegistry()
LEDGER = CollectorRegistry()
WEBHOOKS = CollectorRegistry()
BATCHES = CollectorRegistry()

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 5)
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# --- the HTTP front -------------------------------------------------------------------

http_requests = Counter(
    "penstock_http_requests_total",
    "Requests answered, by route template and class of status (2xx, 4xx, ...)",
    ["route", "method", "status"],
    registry=API,
)
http_seconds = Histogram(
    "penstock_http_request_seconds",
    "From a request's arrival to the first byte of its answer",
    ["route", "method"],
    buckets=LATENCY_BUCKETS,
    registry=API,
)
loop_lag = Histogram(
    "penstock_event_loop_lag_seconds",
    "How late a timer of the event loop is: whatever blocks it, all its clients wait for",
    buckets=LAG_BUCKETS,
    registry=API,
)
streams = Gauge(
    "penstock_sse_connections", "Open event streams", multiprocess_mode="livesum", registry=API
)
jobs_submitted = Counter(
    "penstock_jobs_submitted_total", "Jobs accepted", ["model", "tier"], registry=API
)
jobs_refused = Counter(
    "penstock_jobs_refused_total", "Jobs refused at the door", ["code"], registry=API
)
limit_refusals = Counter(
    "penstock_limit_refusals_total",
    "Jobs refused by a limit, by what it limits and whose it is",
    ["limit", "scope"],
    registry=API,
)

# --- a job's life, as its worker sees it ----------------------------------------------

queue_wait = Histogram(
    "penstock_queue_wait_seconds",
    "From submit to first start",
    ["model", "tier"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
time_to_first_token = Histogram(
    "penstock_time_to_first_token_seconds",
    "From submit to a job's first token",
    ["model", "tier"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
prefill = Histogram(
    "penstock_prefill_seconds",
    "From claim to the first token of an attempt",
    ["model"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
inter_token = Histogram(
    "penstock_inter_token_seconds",
    "Between two engine steps while jobs run: what lies between two tokens of a stream",
    ["model"],
    buckets=STEP_BUCKETS,
    registry=WORKER,
)
job_seconds = Histogram(
    "penstock_job_seconds",
    "From submit to the end, of completed jobs",
    ["model", "tier"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
run_time = Histogram(
    "penstock_run_seconds",
    "One attempt, from claim to how it ended",
    ["model"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
tokens = Counter(
    "penstock_tokens_total",
    "Tokens at the engine: input, cached_input (a part of input), output",
    ["model", "kind"],
    registry=WORKER,
)
jobs_ended = Counter(
    "penstock_jobs_ended_total", "Jobs that workers ended", ["model", "status"], registry=WORKER
)
attempts = Counter(
    "penstock_attempts_total",
    "Attempts by outcome: a terminal status, retried, handed_over or lost",
    ["model", "outcome"],
    registry=WORKER,
)
attempt_failures = Counter(
    "penstock_attempt_failures_total",
    "Attempts that failed, by error code",
    ["model", "code"],
    registry=WORKER,
)
leases_lost = Counter(
    "penstock_leases_lost_total", "Leases lost to another attempt", ["model"], registry=WORKER
)

# --- the worker's batches -------------------------------------------------------------

claim_batch = Histogram(
    "penstock_claim_batch_size",
    "Jobs taken by one claim",
    ["model"],
    buckets=SIZE_BUCKETS,
    registry=WORKER,
)
step_sequences = Histogram(
    "penstock_engine_batch_size",
    "Sequences that one engine step advanced",
    ["model"],
    buckets=SIZE_BUCKETS,
    registry=WORKER,
)
step_events = Histogram(
    "penstock_step_events",
    "Events written by one append",
    ["model"],
    buckets=SIZE_BUCKETS,
    registry=WORKER,
)
dead_tickets = Counter(
    "penstock_dead_tickets_total", "Messages that were no tickets", registry=WORKER
)

# --- the sweeper ----------------------------------------------------------------------

swept = Counter(
    "penstock_swept_total", "What the sweeper repaired", ["model", "kind"], registry=CONTROL
)
holds_swept = Counter(
    "penstock_holds_swept_total", "Holds whose job left no usage behind", registry=CONTROL
)
sweep_seconds = Histogram(
    "penstock_sweep_seconds",
    "One sweep of every queue",
    buckets=LATENCY_BUCKETS,
    registry=CONTROL,
)

# --- the ledger -----------------------------------------------------------------------

ledger_events = Counter(
    "penstock_ledger_events_total",
    "Outbox entries by what became of them: recorded, duplicate, set_aside",
    ["outcome"],
    registry=LEDGER,
)
ledger_unpriced = Counter(
    "penstock_ledger_unpriced_total",
    "Usage recorded without a price, to be rated later",
    ["model"],
    registry=LEDGER,
)
ledger_batch_seconds = Histogram(
    "penstock_ledger_batch_seconds",
    "One batch, from reading its jobs to leaving the outbox",
    buckets=LATENCY_BUCKETS,
    registry=LEDGER,
)
ledger_lag = Histogram(
    "penstock_ledger_lag_seconds",
    "From a job's end to its usage in the ledger",
    buckets=(*LATENCY_BUCKETS, 3_600),
    registry=LEDGER,
)
charged = Counter(
    "penstock_charged_total",
    "What recorded usage was charged, in units of the currency; an estimate, the ledger is exact",
    ["model", "currency"],
    registry=LEDGER,
)
budget_warnings = Counter(
    "penstock_budget_warnings_total", "Percentages that budgets reached", registry=LEDGER
)

# --- webhooks -------------------------------------------------------------------------

webhook_attempts = Counter(
    "penstock_webhook_attempts_total",
    "Attempts to deliver a webhook by how they ended: delivered, retry, failed",
    ["outcome"],
    registry=WEBHOOKS,
)
webhook_seconds = Histogram(
    "penstock_webhook_attempt_seconds",
    "One attempt to deliver a webhook",
    buckets=LATENCY_BUCKETS,
    registry=WEBHOOKS,
)
webhooks_disabled = Counter(
    "penstock_webhook_endpoints_disabled_total",
    "Endpoints that were disabled because of what they answered, or did not",
    registry=WEBHOOKS,
)

# --- telemetry itself -----------------------------------------------------------------

spans = Counter(
    "penstock_spans_total", "Spans by what became of them: exported, failed, dropped", ["outcome"]
)

# --- the feeder -----------------------------------------------------------------------

batches_held = Gauge("penstock_batches_held", "Batches this process works on", registry=BATCHES)
batch_errors = Counter(
    "penstock_batch_errors_total", "Times work on a batch ended unexpectedly", registry=BATCHES
)
