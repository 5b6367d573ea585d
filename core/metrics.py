"""Every metric that code counts or times; collectors yield those that are read during a scrape.

Invariant: labels have few values (never a job or text from a client; an account only in the metrics
whose number of accounts `billing.metric_accounts` bounds), units are in the names, and a value that
cannot be read is absent, never 0: an autoscaler would take 0 for idle.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: One registry for each kind of process. Every process that accepts jobs exports `API`.
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

# --- the HTTP server ------------------------------------------------------------------

http_requests = Counter(
    "penstock_http_requests_total",
    "Answered requests by route template and status (499: the client left before the answer)",
    ["route", "method", "status"],
    registry=API,
)
http_seconds = Histogram(
    "penstock_http_request_seconds",
    "Time from a request's arrival to the first byte of its answer",
    ["route", "method"],
    buckets=LATENCY_BUCKETS,
    registry=API,
)
loop_lag = Histogram(
    "penstock_event_loop_lag_seconds",
    "Delay of a timer in the event loop; blocking code delays all clients by as much",
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
    "penstock_jobs_refused_total", "Refused submissions by error code", ["code"], registry=API
)
tokeniser_requests = Counter(
    "penstock_tokeniser_requests_total",
    "Requests to a model's tokeniser by outcome: answered, client-left, or the code of the error",
    ["model", "outcome"],
    registry=API,
)
media_fetches = Counter(
    "penstock_media_fetches_total",
    "Fetches of media by outcome: fetched, unreachable, timeout, status, redirect, type, size, busy"
    " (no free place), cancelled (another of the request failed)",
    ["outcome"],
    registry=API,
)
media_fetch_seconds = Histogram(
    "penstock_media_fetch_seconds",
    "Time of one fetch of media, without the wait for a free place",
    buckets=LATENCY_BUCKETS,
    registry=API,
)
media_bytes = Counter(
    "penstock_media_fetched_bytes_total", "Bytes of media that were fetched", registry=API
)
limit_refusals = Counter(
    "penstock_limit_refusals_total",
    "Submissions refused by a limit, by kind of limit and by its owner",
    ["limit", "scope"],
    registry=API,
)

# --- jobs on a worker ---------------------------------------------------------------

queue_wait = Histogram(
    "penstock_queue_wait_seconds",
    "Time from submit to the first start",
    ["model", "tier"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
time_to_first_token = Histogram(
    "penstock_time_to_first_token_seconds",
    "Time from submit to a job's first token",
    ["model", "tier"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
prefill = Histogram(
    "penstock_prefill_seconds",
    "Time from claim to the first token of an attempt",
    ["model"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
inter_token = Histogram(
    "penstock_inter_token_seconds",
    "Time between two engine steps while jobs run, which is the time between two tokens",
    ["model"],
    buckets=STEP_BUCKETS,
    registry=WORKER,
)
job_seconds = Histogram(
    "penstock_job_seconds",
    "Time from submit to the end of a completed job",
    ["model", "tier"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
run_time = Histogram(
    "penstock_run_seconds",
    "Time of one attempt, from claim to its end",
    ["model"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
tokens = Counter(
    "penstock_tokens_total",
    "Tokens of the engine: input, cached_input (included in input), output",
    ["model", "kind"],
    registry=WORKER,
)
jobs_ended = Counter(
    "penstock_jobs_ended_total", "Ended jobs by status", ["model", "status"], registry=WORKER
)
attempts = Counter(
    "penstock_attempts_total",
    "Attempts by outcome: a terminal status, retried, handed_over or lost",
    ["model", "outcome"],
    registry=WORKER,
)
attempt_failures = Counter(
    "penstock_attempt_failures_total",
    "Failed attempts by error code",
    ["model", "code"],
    registry=WORKER,
)
leases_lost = Counter(
    "penstock_leases_lost_total",
    "Leases that were lost to another attempt",
    ["model"],
    registry=WORKER,
)

# --- the worker's batches -------------------------------------------------------------

claim_batch = Histogram(
    "penstock_claim_batch_size",
    "Number of jobs in one claim",
    ["model"],
    buckets=SIZE_BUCKETS,
    registry=WORKER,
)
step_sequences = Histogram(
    "penstock_engine_batch_size",
    "Number of sequences in one engine step",
    ["model"],
    buckets=SIZE_BUCKETS,
    registry=WORKER,
)
step_events = Histogram(
    "penstock_step_events",
    "Number of events in one append",
    ["model"],
    buckets=SIZE_BUCKETS,
    registry=WORKER,
)
dead_tickets = Counter(
    "penstock_dead_tickets_total", "Messages on a job queue that are not tickets", registry=WORKER
)

# --- grammars of structured outputs -----------------------------------------------------

grammar_seconds = Histogram(
    "penstock_grammar_compile_seconds",
    "Time that a helper process took to compile and try a grammar",
    ["model"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
grammar_refused = Counter(
    "penstock_grammar_refused_total",
    "Grammars that were refused, by reason",
    ["model", "reason"],
    registry=WORKER,
)

# --- rendering --------------------------------------------------------------------------

render_seconds = Histogram(
    "penstock_render_seconds",
    "Time to render and tokenise a request, by where: engine or helper",
    ["model", "where"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)
render_refused = Counter(
    "penstock_render_refused_total",
    "Requests that exceeded a limit of rendering, by reason",
    ["model", "reason"],
    registry=WORKER,
)

tokeniser_seconds = Histogram(
    "penstock_tokeniser_seconds",
    "Time to answer a request to the model's tokeniser",
    ["model"],
    buckets=LATENCY_BUCKETS,
    registry=WORKER,
)

# --- the sweeper ----------------------------------------------------------------------

swept = Counter(
    "penstock_swept_total", "Repairs by the sweeper, by kind", ["model", "kind"], registry=CONTROL
)
holds_swept = Counter(
    "penstock_holds_swept_total",
    "Removed budget reservations whose job left no usage",
    registry=CONTROL,
)
sweep_seconds = Histogram(
    "penstock_sweep_seconds",
    "Time of one sweep over all queues",
    buckets=LATENCY_BUCKETS,
    registry=CONTROL,
)

# --- the ledger -----------------------------------------------------------------------

ledger_events = Counter(
    "penstock_ledger_events_total",
    "Outbox entries by outcome: recorded, duplicate, set_aside",
    ["outcome"],
    registry=LEDGER,
)
ledger_unpriced = Counter(
    "penstock_ledger_unpriced_total",
    "Usage events recorded without a price; they are rated later",
    ["model"],
    registry=LEDGER,
)
ledger_batch_seconds = Histogram(
    "penstock_ledger_batch_seconds",
    "Time of one batch, from reading its jobs to removing it from the outbox",
    buckets=LATENCY_BUCKETS,
    registry=LEDGER,
)
ledger_lag = Histogram(
    "penstock_ledger_lag_seconds",
    "Time from a job's end to its usage event in the ledger",
    buckets=(*LATENCY_BUCKETS, 3_600),
    registry=LEDGER,
)
charged = Counter(
    "penstock_charged_total",
    "Charges for recorded usage in units of the currency; rounded, the ledger is exact",
    ["model", "currency"],
    registry=LEDGER,
)
account_tokens = Counter(
    "penstock_account_tokens_total",
    "Tokens of recorded usage by account; the accounts beyond billing.metric_accounts share one",
    ["account", "model", "kind"],
    registry=LEDGER,
)
account_charged = Counter(
    "penstock_account_charged_total",
    "Charges by account, as in penstock_charged_total",
    ["account", "model", "currency"],
    registry=LEDGER,
)
budget_warnings = Counter(
    "penstock_budget_warnings_total", "Budget thresholds that were reached", registry=LEDGER
)

# --- webhooks -------------------------------------------------------------------------

webhook_attempts = Counter(
    "penstock_webhook_attempts_total",
    "Attempts to deliver a webhook by outcome: delivered, retry, failed",
    ["outcome"],
    registry=WEBHOOKS,
)
webhook_seconds = Histogram(
    "penstock_webhook_attempt_seconds",
    "Time of one attempt to deliver a webhook",
    buckets=LATENCY_BUCKETS,
    registry=WEBHOOKS,
)
webhooks_disabled = Counter(
    "penstock_webhook_endpoints_disabled_total",
    "Endpoints disabled after failed deliveries or an answer of 410",
    registry=WEBHOOKS,
)

# --- telemetry itself -----------------------------------------------------------------

spans = Counter("penstock_spans_total", "Spans by outcome: exported, failed, dropped", ["outcome"])

# --- the feeder -----------------------------------------------------------------------

batches_held = Gauge(
    "penstock_batches_held", "Batches that this process is processing", registry=BATCHES
)
batch_errors = Counter(
    "penstock_batch_errors_total", "Unexpected errors while a batch was processed", registry=BATCHES
)
