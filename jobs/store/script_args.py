"""Arguments of the job scripts, in the order in which each script takes them.

The fields of a class become local variables of its script (`core.redis.script_sources`).
Integers are milliseconds where a name ends in `_ms`; the instants `start_by`, `deadline` and
`created_until` are Unix milliseconds of Redis's clock. An empty string means "none".
"""

from typing import NamedTuple


class RetentionArgs(NamedTuple):
    """How long finished jobs are kept; `starts_at_archive` is "1" or "0"."""

    ttl_ms: int
    tombstone_ms: int
    dead_ttl_ms: int
    starts_at_archive: str


class SubmitArgs(NamedTuple):
    """`submit.lua`; (scope, limit) per scope of the reservation follow."""

    job_id: str
    account: str
    queue: str
    tier: int
    cost: int
    weight: float
    spec: bytes
    idempotency_key: str
    body_hash: str
    idempotency_ms: int
    max_queued: int
    max_queued_per_account: int
    start_by: int | str
    deadline: int | str
    max_running: int
    watcher: str
    key_id: str
    body: bytes
    quota_json: bytes
    max_failures: int
    max_ahead: int | str
    lock: str = ""
    lock_holder: str = ""
    balance: str = ""
    month: str = ""
    nanos: int | str = ""


class TokeniseArgs(NamedTuple):
    """`tokenise.lua`."""

    queue: str
    account: str
    quota_json: bytes
    max_waiting: int
    expire_ms: int
    request: bytes


class ClaimArgs(NamedTuple):
    """`claim.lua`."""

    queue: str
    worker: str
    limit: int
    lease_ms: int
    run_ms: int
    ageing_ms: int
    ageing_every: int
    occupancy: str
    apart_wait_ms: int
    apart_share: float
    weights: str


class StepArgs(NamedTuple):
    """One job's part of `append.lua`; (type, data) per event and `EndingArgs` follow."""

    job_id: str
    fence: int
    after: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    vectors: int
    event_count: int


class EndingArgs(NamedTuple):
    """How a job ends; both empty while it goes on."""

    status: str = ""
    error_json: bytes = b""


class FinishArgs(NamedTuple):
    """`finish.lua`."""

    job_id: str
    fence: int
    status: str
    error_json: bytes


class RequeueArgs(NamedTuple):
    """`requeue.lua`; `counted` is "1" or "0", `blame` a `jobs.blame.Blame`."""

    job_id: str
    fence: int
    error_json: bytes
    delay_ms: int
    counted: str
    max_attempts: int
    blame: str


class BlameArgs(NamedTuple):
    """When jobs whose workers stopped run alone, and when they fail (`RetrySettings`)."""

    max_deaths: int
    max_kills: int
    max_lone_stops: int


class RenewArgs(NamedTuple):
    """`renew.lua`; (job id, fence) per lease follow."""

    queue: str
    worker: str
    lease_ms: int
    slots: int
    description: bytes


class LoadingArgs(NamedTuple):
    """`loading.lua`; `forget_ms` after `limit_ms` the host's first load is forgotten."""

    queue: str
    worker: str
    host: str
    limit_ms: int
    expire_ms: int
    forget_ms: int


class SweepArgs(NamedTuple):
    """`sweep.lua`."""

    queue: str
    limit: int
    lease_ms: int


class CancelArgs(NamedTuple):
    """`cancel.lua`."""

    job_id: str
    account: str


class DeleteArgs(NamedTuple):
    """`delete.lua`."""

    job_id: str
    account: str
    tombstone_ms: int


class WatchArgs(NamedTuple):
    """`watch.lua`."""

    job_id: str
    account: str
    watcher: str


class UnwatchArgs(NamedTuple):
    """`unwatch.lua`."""

    job_id: str
    watcher: str


class QueueArgs(NamedTuple):
    """`mode.lua`."""

    queue: str


class SetModeArgs(NamedTuple):
    """`set_mode.lua`: each switch becomes "1" or "0", or stays as it is with ""."""

    queue: str
    accepts: str
    runs: str
    set_by: str


class EndWaitingArgs(NamedTuple):
    """`end_waiting.lua`: jobs `first` to `first + limit - 1` of a place."""

    queue: str
    place: str
    first: int
    limit: int
    created_until: str
    error_json: bytes


class RetireArgs(NamedTuple):
    """`retire.lua`; `must_be_idle` is "1" or "0"."""

    queue: str
    mark: bytes
    mode: str
    set_by: str
    must_be_idle: str


class ObserveArgs(NamedTuple):
    """`observe.lua`."""

    queue: str
    look_at: int


class PositionArgs(NamedTuple):
    """`position.lua`."""

    queue: str
    job_id: str


class FinishedArgs(NamedTuple):
    """`finished.lua`; the field names, then (job id, number of events) per job follow."""

    field_count: int


class ArchiveArgs(NamedTuple):
    """`archive.lua`; entry ids follow."""

    group: str


class ForgetConsumersArgs(NamedTuple):
    """`forget_consumers.lua`."""

    group: str
    idle_ms: int


class SettleArgs(NamedTuple):
    """`settle.lua`; job ids, then (balance, month, scope, nanos) per sum follow."""

    job_count: int


class SweepReservationsArgs(NamedTuple):
    """`sweep_reservations.lua`."""

    cursor: str


class LockArgs(NamedTuple):
    """`lock.lua`; 0 ms releases the lock."""

    lock: str
    holder: str
    ms: int


class LockSweeperArgs(NamedTuple):
    """`lock_sweeper.lua`."""

    holder: str
    ms: int


class PurgeArgs(NamedTuple):
    """`purge.lua`."""

    limit: int
