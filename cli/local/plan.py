"""Plans a pipeline before it starts: its ports, its addresses and the programs to run."""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from cli.checks.start import choose_port, is_free
from cli.connect.embedded_redis import find_program, redis_command
from cli.connect.state_dir import StateDir
from core.runtime.child_process import Program, free_port
from core.settings.engine import TINY_MODEL
from core.settings.tree import Settings

STOP_ORDER = ("api", "worker", "feeder", "control", "ledger", "deliverer", "redis")
LOOPBACK = "127.0.0.1"
#: Seconds after a worker's own grace period until it is killed. Its jobs run again at the next
#: start, when their leases have expired.
STOP_MARGIN_SECONDS = 2.0
STOP_SECONDS = 5.0
REDIS_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything listens; `redis_port` is None when the settings name a running Redis."""

    redis_url: str
    redis_port: int | None
    api_host: str
    api_port: int
    health_host: str
    health_port: int

    @property
    def url(self) -> str:
        """The URL of the API on this machine."""
        return f"http://{reachable(self.api_host)}:{self.api_port}"

    @property
    def health_url(self) -> str:
        """The URL of the worker's health server on this machine."""
        return f"http://{reachable(self.health_host)}:{self.health_port}"

    @property
    def redis_address(self) -> str:
        """Host and port of Redis, without the password."""
        parts = urlsplit(self.redis_url)
        return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


def reachable(host: str) -> str:
    """Return the host for a URL of a server that is bound to `host`."""
    host = {"0.0.0.0": LOOPBACK, "::": "::1", "": LOOPBACK}.get(host, host)  # noqa: S104
    return f"[{host}]" if ":" in host else host


def make_plan(settings: Settings, state_dir: StateDir) -> Plan:
    """Choose the ports and Redis's password; `quick_checks` has checked everything else.

    Raises:
        Failure: a port is taken; the text names the setting that changes it.
    """
    api, worker, redis = settings.api, settings.worker, settings.redis
    api_port = choose_port(api.host, api.port, "the API", "PENSTOCK_API__PORT")
    health_port = choose_port(
        worker.health_host, worker.health_port, "the worker", "PENSTOCK_WORKER__HEALTH_PORT"
    )
    url, port = redis.url.get_secret_value(), None
    if "url" not in redis.model_fields_set:
        preferred = urlsplit(url).port or 0
        port = preferred if preferred and is_free(LOOPBACK, preferred) else free_port()
        state_dir.redis_config()
        url = state_dir.redis_url(f"{LOOPBACK}:{port}")
    return Plan(url, port, api.host, api_port, worker.health_host, health_port)


def redis_program(plan: Plan, state_dir: StateDir) -> Program | None:
    """Return the embedded Redis, or None when the settings name a running one."""
    if plan.redis_port is None:
        return None
    command = redis_command(find_program(), plan.redis_port, state_dir)
    return Program("redis", command, state_dir.log_file("redis"), stop_seconds=REDIS_STOP_SECONDS)


def process_programs(plan: Plan, state_dir: StateDir, settings: Settings) -> dict[str, Program]:
    """Return the programs of our own processes by name."""
    common = {
        "PENSTOCK_REDIS__URL": plan.redis_url,
        "PENSTOCK_API__PORT": str(plan.api_port),
        "PENSTOCK_WORKER__HEALTH_PORT": str(plan.health_port),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",  # a native crash writes Python's stack to the log
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
        api["PENSTOCK_AUTH__JWT_SECRET"] = state_dir.jwt_secret()

    def program(
        name: str,
        module: str,
        added: Mapping[str, str],
        *,
        stop_seconds: float = STOP_SECONDS,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> Program:
        command = [sys.executable, "-P", "-m", module]  # -P: not from the current directory
        environment = {**os.environ, **common, **added}
        return Program(
            name,
            command,
            state_dir.log_file(name),
            environment,
            stop_seconds=stop_seconds,
            death_signal=death_signal,
        )

    webhook_seconds = settings.webhooks.total_seconds + STOP_MARGIN_SECONDS
    worker_seconds = settings.worker.grace_seconds + STOP_MARGIN_SECONDS
    programs = (
        program("control", "workers.sweeper", _any_port(settings, "control")),
        program("ledger", "billing.process", _any_port(settings, "billing")),
        program(
            "deliverer", "webhooks", _any_port(settings, "webhooks"), stop_seconds=webhook_seconds
        ),
        program("feeder", "batches", _any_port(settings, "batches")),
        program("api", "api", api),
        program(
            "worker",
            "workers",
            worker,
            stop_seconds=worker_seconds,
            death_signal=signal.SIGTERM,  # it may have an engine process of its own to stop
        ),
    )
    return {one.name: one for one in programs}


def _any_port(settings: Settings, group: str) -> dict[str, str]:
    """Return the variable for any free health port, unless the settings name a port."""
    if "health_port" in getattr(settings, group).model_fields_set:
        return {}
    return {f"PENSTOCK_{group.upper()}__HEALTH_PORT": "0"}
