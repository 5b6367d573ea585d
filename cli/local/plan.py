"""What a whole pipeline consists of: ports, addresses and child processes, decided beforehand."""

import signal
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

from cli.connect.state_dir import StateDir
from cli.local.checks import (
    available_gib,
    check_kernels,
    check_memory,
    check_model,
    choose_port,
    free_port,
    is_free,
)
from cli.local.embedded_redis import find_program, redis_command
from cli.local.supervisor import ChildSpec
from core.settings.engine import TINY_MODEL
from core.settings.tree import Settings

STOP_ORDER = ("api", "worker", "feeder", "control", "ledger", "deliverer", "redis")
LOOPBACK = "127.0.0.1"
#: Past its own grace period a worker is killed; its leases hand the jobs on at the next start.
STOP_MARGIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything listens. `redis_port` is None when Redis is somebody else's."""

    redis_url: str
    redis_port: int | None
    api_host: str
    api_port: int
    health_host: str
    health_port: int

    @property
    def url(self) -> str:
        """The API as this machine reaches it."""
        return f"http://{reachable(self.api_host)}:{self.api_port}"

    @property
    def health_url(self) -> str:
        """The worker's health server as this machine reaches it."""
        return f"http://{reachable(self.health_host)}:{self.health_port}"

    @property
    def redis_address(self) -> str:
        """Host and port of Redis, without any password."""
        parts = urlsplit(self.redis_url)
        return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


def reachable(host: str) -> str:
    """Return how a URL names a server that is bound to `host`."""
    host = {"0.0.0.0": LOOPBACK, "::": "::1", "": LOOPBACK}.get(host, host)  # noqa: S104
    return f"[{host}]" if ":" in host else host


def make_plan(settings: Settings) -> Plan:
    """Choose the ports, and check what can be checked before anything starts.

    Raises:
        Failure: it cannot start; the text says which setting would change that.
    """
    api, worker, redis = settings.api, settings.worker, settings.redis
    check_model(settings.engine)
    check_memory(settings.engine, available_gib())
    check_kernels(settings.engine)
    api_port = choose_port(api.host, api.port, "the API", "PENSTOCK_API__PORT")
    health_port = choose_port(
        worker.health_host, worker.health_port, "the worker", "PENSTOCK_WORKER__HEALTH_PORT"
    )
    url, port = redis.url.get_secret_value(), None
    if "url" not in redis.model_fields_set:
        preferred = urlsplit(url).port or 0
        port = preferred if preferred and is_free(LOOPBACK, preferred) else free_port()
        url = f"redis://{LOOPBACK}:{port}/0"
    return Plan(url, port, api.host, api_port, worker.health_host, health_port)


def redis_spec(plan: Plan, home: StateDir) -> ChildSpec | None:
    """Return the embedded Redis, or None where one was named."""
    if plan.redis_port is None:
        return None
    home.data.mkdir(parents=True, exist_ok=True)
    command = redis_command(find_program(), plan.redis_port, home.data)
    return ChildSpec("redis", command, home.log_file("redis"), stop_seconds=10.0)


def process_specs(plan: Plan, home: StateDir, settings: Settings) -> dict[str, ChildSpec]:
    """Return our own processes by name."""
    common = {
        "PENSTOCK_REDIS__URL": plan.redis_url,
        "PENSTOCK_API__PORT": str(plan.api_port),
        "PENSTOCK_WORKER__HEALTH_PORT": str(plan.health_port),
        "PYTHONUNBUFFERED": "1",
    }
    if "format" not in settings.log.model_fields_set:
        common["PENSTOCK_LOG__FORMAT"] = "console"  # these logs are for people
    if "start" not in settings.retention.model_fields_set:
        common["PENSTOCK_RETENTION__START"] = "archive"  # a ledger process runs beside them
    worker = {"TOKENIZERS_PARALLELISM": "false"}
    if settings.engine.model == str(TINY_MODEL):
        worker |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # it is slower with more

    api = {}
    if settings.auth.jwt_secret is None:
        api["PENSTOCK_AUTH__JWT_SECRET"] = home.jwt_secret()

    def python(module: str) -> list[str]:
        return [sys.executable, "-P", "-m", module]  # -P: not from the current directory

    return {
        "control": ChildSpec(
            "control",
            python("workers.sweeper"),
            home.log_file("control"),
            common | _any_port(settings, "control"),
        ),
        "ledger": ChildSpec(
            "ledger",
            python("billing"),
            home.log_file("ledger"),
            common | _any_port(settings, "billing"),
            restarts=True,
        ),
        "deliverer": ChildSpec(
            "deliverer",
            python("webhooks"),
            home.log_file("deliverer"),
            common | _any_port(settings, "webhooks"),
            stop_seconds=settings.webhooks.total_seconds + STOP_MARGIN_SECONDS,
            restarts=True,
        ),
        "feeder": ChildSpec(
            "feeder",
            python("batches"),
            home.log_file("feeder"),
            common | _any_port(settings, "batches"),
            restarts=True,
        ),
        "api": ChildSpec("api", python("api"), home.log_file("api"), common | api),
        "worker": ChildSpec(
            "worker",
            python("workers"),
            home.log_file("worker"),
            common | worker,
            stop_seconds=settings.worker.grace_seconds + STOP_MARGIN_SECONDS,
            restarts=True,
            death_signal=signal.SIGTERM,  # it may have an engine process of its own to stop
        ),
    }


def _any_port(settings: Settings, group: str) -> dict[str, str]:
    """Let a process show its probes at any free port, unless it was told which."""
    if "health_port" in getattr(settings, group).model_fields_set:
        return {}
    return {f"PENSTOCK_{group.upper()}__HEALTH_PORT": "0"}
