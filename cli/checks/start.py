"""Checks ports, disk, files and secrets, and lists all checks that ask no server.

`penstock up` refuses what `penstock doctor` reports as a problem: both run `quick_checks`.
"""

import errno
import os
import resource
import shutil
import socket
import stat
from pathlib import Path

from cli.checks.findings import Check, Finding, fine, problem, warning
from cli.checks.machine import (
    check_cpu,
    check_gpu,
    check_memory,
    check_numa,
    check_python,
    check_vllm,
)
from cli.checks.memory import GIB
from cli.checks.model import check_model
from cli.connect.embedded_redis import find_program
from cli.connect.state_dir import STATE_DIR, PipelineState, StateDir
from cli.terminal.failures import Failure
from core.runtime.child_process import free_port
from core.settings.tree import Settings

#: For the ledger, Redis's append-only file and the logs.
LITTLE_DISK_GIB = 2.0
NO_DISK_GIB = 0.25
LITTLE_SHM_GIB = 0.125
FEW_FILES = 1024
TOO_FEW_FILES = 256
SHORT_SECRET_LETTERS = 10
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen on a port."""
    return _why_not(host, port) is None


def _why_not(host: str, port: int) -> OSError | None:
    """Return why no server could listen on a port; None if one could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def choose_port(host: str, port: int, what: str, setting: str) -> int:
    """Return the port to use: the given one, or any free one for 0.

    Args:
        host: The address to listen on.
        port: The port of the settings.
        what: What listens there, for the message.
        setting: The variable of the port, for the message.

    Raises:
        Failure: the port is taken or not allowed, or this machine has no such address.
    """
    error = _why_not(host, port)
    if error is None:
        return port or free_port(host)
    where = setting.replace("PORT", "HOST")
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        raise Failure(
            f"{what} cannot listen on {host}: this machine has no such address",
            f"{where}: expected an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all",
        )
    if error.errno == errno.EACCES:
        raise Failure(
            f"{what} cannot listen on {host}:{port}: {error.strerror}",
            f"{setting}: ports under 1024 are for root; expected another one, or 0 for any",
        )
    if error.errno != errno.EADDRINUSE:
        raise Failure(f"{what} cannot listen on {host}:{port}: {error.strerror}", where, setting)
    raise Failure(
        f"port {port} is taken, so {what} cannot listen on {host}:{port}",
        f"free it, or choose another port: {setting}={port + 1} (0 takes any free one)",
    )


def check_ports(settings: Settings, running: PipelineState | None) -> Finding:
    """Check that the ports of the settings are free."""
    if running is not None:
        return fine("ports", f"a pipeline runs in this directory and answers at {running.url}")
    api, worker = settings.api, settings.worker
    health = worker.health_host, worker.health_port
    choose_port(api.host, api.port, "the API", "PENSTOCK_API__PORT")
    choose_port(*health, "the worker", "PENSTOCK_WORKER__HEALTH_PORT")
    return fine("ports", f"{_port(api.port)} (API) and {_port(worker.health_port)} (worker)")


def check_disk(folder: Path = STATE_DIR) -> Finding:
    """Check that the state directory can be written and has space."""
    name = "disk"
    place = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        return problem(name, f"{place} cannot be written", "run it elsewhere, or change its owner")
    gib = shutil.disk_usage(place).free / GIB
    text = f"{gib:.1f} GiB free for {folder} (in {place})"
    advice = "free some space: Redis's append-only file, the ledger, files and logs grow there"
    if gib < NO_DISK_GIB:
        return problem(name, text, advice)
    return warning(name, text, advice) if gib < LITTLE_DISK_GIB else fine(name, text)


def check_shm(settings: Settings, folder: Path = Path("/dev/shm")) -> Finding:  # noqa: S108
    """Check that the processes of an engine can share memory."""
    name, engine = "shm", settings.engine
    needed = engine.kind == "vllm" and engine.core == "separate"
    if not folder.is_dir():
        text = f"there is no {folder}"
        return warning(name, text, "mount a tmpfs there") if needed else fine(name, text)
    gib = shutil.disk_usage(folder).free / GIB
    text = f"{gib:.2f} GiB free in {folder}"
    if needed and gib < LITTLE_SHM_GIB:
        return warning(name, text, "a container gets more with: docker run --shm-size=1g")
    return fine(name, text if needed else f"{text} (not needed by this engine)")


def check_files(soft: int | None = None) -> Finding:
    """Check how many files and connections a process can have open."""
    name = "open files"
    found = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if soft is None else soft
    if found == resource.RLIM_INFINITY:
        return fine(name, "no limit")
    text = f"limit {found}; each client connection is one"
    if found < TOO_FEW_FILES:
        return problem(name, text, f"ulimit -n {FEW_FILES * 4}")
    return (
        warning(name, text, f"ulimit -n {FEW_FILES * 4}") if found < FEW_FILES else fine(name, text)
    )


def check_secret(settings: Settings) -> Finding:
    """Check the secret that signs tokens."""
    name, secret = "secret", settings.auth.jwt_secret
    setting = "PENSTOCK_AUTH__JWT_SECRET"
    new = f"set a random one: {setting}=$(openssl rand -hex 32)"
    if secret is None:
        text = f"{setting} is not set: `penstock up` creates one"
        return fine(name, f"{text}, `penstock api` needs it")
    if len(set(secret.get_secret_value())) < SHORT_SECRET_LETTERS:
        return problem(name, f"{setting} can be guessed: it repeats a few characters", new)
    if _is_development_secret(settings, StateDir()):
        advice = "other machines can reach this API: it needs a secret of its own", new
        return problem(name, f"{setting} is the development secret of {STATE_DIR}", *advice)
    return fine(name, f"{setting} is set")


def _is_development_secret(settings: Settings, state_dir: StateDir) -> bool:
    """Return whether a public API uses the secret that `penstock up` created."""
    if settings.api.host in LOOPBACK or settings.auth.jwt_secret is None:
        return False
    try:
        return (state_dir.path / "jwt-secret").read_text().strip() == (
            settings.auth.jwt_secret.get_secret_value()
        )
    except OSError:
        return False


def check_private(folder: Path = STATE_DIR) -> Finding:
    """Check that other users of this machine cannot read the secrets of `.penstock`."""
    name = "private files"
    private = ("", "dev-key", "jwt-secret", "redis-password", "redis.conf", "penstock.db")
    shared = [
        path
        for path in (folder / each for each in private)
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    if shared:
        names = " ".join(map(str, shared))
        advice = f"chmod go= {names}", "the next `penstock up` does it as well"
        return warning(name, f"other users of this machine can read {names}", *advice)
    return fine(name, f"other users cannot read {folder}")


def check_embedded(settings: Settings) -> Finding:
    """Check that there is a Redis for `penstock up` to start."""
    if "url" in settings.redis.model_fields_set:
        return fine("redis", "PENSTOCK_REDIS__URL names one; `penstock up` checks it")
    return fine("redis", f"not set: `penstock up` starts {find_program()}")


def machine_checks() -> list[Check]:
    """Return the checks that need no settings."""
    return [
        Check("python", check_python),
        Check("disk", check_disk),
        Check("open files", check_files),
        Check("private files", check_private),
    ]


def quick_checks(settings: Settings, running: PipelineState | None = None) -> list[Check]:
    """Return the checks that ask no server; they import neither vLLM nor torch."""
    engine = settings.engine
    return [
        *machine_checks(),
        Check("memory", lambda: check_memory(engine, running=running is not None)),
        Check("shm", lambda: check_shm(settings)),
        Check("cpu", lambda: check_cpu(engine)),
        Check("gpu", lambda: check_gpu(engine)),
        Check("libnuma", lambda: check_numa(engine)),
        Check("vllm", lambda: check_vllm(engine)),
        Check("model", lambda: check_model(engine)),
        Check("ports", lambda: check_ports(settings, running)),
        Check("secret", lambda: check_secret(settings)),
        Check("redis", lambda: check_embedded(settings)),
    ]


def _port(port: int) -> str:
    return str(port) if port else "any free port"
