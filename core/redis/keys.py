"""The names of all Redis keys; `jobs/store/scripts/lib.lua` builds the same ones.

Invariant: all keys have one prefix, so that two installations can share a server.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Names under one prefix. `queue` is the served model name.

    KEDA counts `queued`, `running` and `loading`.
    """

    prefix: str

    def job(self, job_id: str) -> str:
        """Hash: the job's record."""
        return f"{self.prefix}:job:{job_id}"

    def log(self, job_id: str) -> str:
        """Stream: the job's events; entry id `<seq>-0`."""
        return f"{self.prefix}:log:{job_id}"

    def gone(self, job_id: str) -> str:
        """String: account of a job whose record is no longer kept."""
        return f"{self.prefix}:gone:{job_id}"

    def tickets(self, queue: str) -> str:
        """List: the Celery queue."""
        return f"{self.prefix}:tickets:{queue}"

    def queued(self, queue: str) -> str:
        """Sorted set: waiting jobs by score."""
        return f"{self.prefix}:q:{queue}:ready"

    def running(self, queue: str) -> str:
        """Sorted set: running jobs by lease expiry."""
        return f"{self.prefix}:q:{queue}:running"

    def loading(self, queue: str) -> str:
        """Sorted set: workers that load their model, by expiry."""
        return f"{self.prefix}:q:{queue}:loading"

    def load_began(self, queue: str, host: str) -> str:
        """String with a TTL: when a host began the first of its loads that did not succeed."""
        return f"{self.prefix}:q:{queue}:load_began:{host}"

    def part(self, queue: str, part: str) -> str:
        """Return another of a queue's keys (delayed, deadlines, fair, service, ...)."""
        return f"{self.prefix}:q:{queue}:{part}"

    def tokenise(self, queue: str) -> str:
        """List with a TTL: requests to a model's tokeniser."""
        return f"{self.prefix}:q:{queue}:tokenise"

    def tokenisers(self, queue: str) -> str:
        """String with a TTL: a worker of the model answers requests to its tokeniser."""
        return f"{self.prefix}:q:{queue}:tokenisers"

    def answers(self, process: str) -> str:
        """List with a TTL: answers of tokenisers for one API process."""
        return f"{self.prefix}:events:{process}:answers"

    def idempotency(self, account: str, key: str) -> str:
        """String with a TTL: fingerprint and job of an idempotency key."""
        return f"{self.prefix}:idempotency:{account}:{key}"

    def rate(self, account: str, scope: str, kind: str) -> str:
        """Hash with a TTL: a bucket; `scope` is a key's id, or `*` for the whole account.

        A client address is a scope with `@` before it, of the account "".
        """
        return f"{self.prefix}:rate:{account}:{scope}:{kind}"

    def account_jobs(self, account: str) -> str:
        """Sorted set: an account's jobs by id, which sorts by time of creation."""
        return f"{self.prefix}:account:{account}:jobs"

    @property
    def write_check(self) -> str:
        """No key: the name that a check deletes to find out whether Redis accepts writes."""
        return f"{self.prefix}:write-check"

    def events(self, watcher: str) -> str:
        """Channel: event frames for one API process."""
        return f"{self.prefix}:events:{watcher}"

    def control(self, worker: str) -> str:
        """Channel: cancels and watch notes for one worker."""
        return f"{self.prefix}:worker:{worker}:control"

    def worker(self, worker: str) -> str:
        """String with a TTL: a worker's own description."""
        return f"{self.prefix}:worker:{worker}"

    def batch_key(self, account: str, idempotency_key: str) -> str:
        """String with a TTL: the batch that an idempotency key was first used for."""
        return f"{self.prefix}:batch-key:{account}:{idempotency_key}"

    @property
    def outbox(self) -> str:
        """Stream: usage of finished jobs on its way to SQL."""
        return f"{self.prefix}:outbox"

    @property
    def webhooks(self) -> str:
        """List: the Celery queue of webhook deliveries that are due."""
        return f"{self.prefix}:webhooks"

    def account_dead(self, account: str) -> str:
        """Sorted set: an account's dead-letter jobs by time of failure."""
        return f"{self.prefix}:account:{account}:dead"

    @property
    def dead(self) -> str:
        """Sorted set: dead-letter jobs of all accounts by time of failure."""
        return f"{self.prefix}:dead"

    @property
    def dead_tickets(self) -> str:
        """List: Celery messages that were no tickets."""
        return f"{self.prefix}:dead:tickets"

    @property
    def callers(self) -> str:
        """Hash: digest of a key, or id or email of a user -> the caller's record."""
        return f"{self.prefix}:callers"

    def sign_in(self, name: str) -> str:
        """String with a TTL: when the next attempt to sign in is due."""
        return f"{self.prefix}:signin:{name}"

    @property
    def models(self) -> str:
        """Hash: served model name -> description; stays when its workers are scaled to zero."""
        return f"{self.prefix}:models"

    @property
    def retired(self) -> str:
        """Hash: retired model -> JSON: what happens to its jobs, who retired it and when."""
        return f"{self.prefix}:retired"

    @property
    def queues(self) -> str:
        """Set: the queue of every model that is known."""
        return f"{self.prefix}:queues"

    @property
    def totals(self) -> str:
        """Hash: terminal status -> how many jobs have ever reached it."""
        return f"{self.prefix}:totals"

    @property
    def sweeper_lock(self) -> str:
        """String with a TTL: which control process sweeps."""
        return f"{self.prefix}:sweeper"
