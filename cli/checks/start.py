"""What must hold before anything starts: ports, model, settings, files, and the list of it all.

`penstock up` refuses what `penstock doctor` calls a problem: both run `quick_checks`.
"""

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
from cli.connect.state_dir import HOME, PipelineState, StateDir
from cli.terminal.failures import Failure
from core.runtime.child_process import free_port
from core.settings.tree import Settings

#: The ledger, Redis's append-only file and the logs lie there.
LITTLE_DISK_GIB = 2.0
NO_DISK_GIB = 0.25
LITTLE_SHM_GIB = 0.125
FEW_FILES = 1024
TOO_FEW_FILES = 256
SHORT_SECRET_LETTERS = 10
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def choose_port(host: str, port: int, what: str, setting: str) -> int:
    """Return the port to use: the one set, or any free one where 0 is set.

    Raises:
        Failure: it is taken.
    """
    if port == 0:
        return free_port(host)
    if is_free(host, port):
        return port
    raise Failure(
        f"port {port} is taken, so {what} cannot listen on {host}:{port}",
        f"free it, or choose another port: {setting}={port + 1} (0 takes any free one)",
    )


def running_here(home: StateDir) -> PipelineState | None:
    """Return the pipeline that runs in this folder, if one does."""
    state = home.read_state()
    if state is None:
        return None
    try:
        os.kill(state.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # somebody else's, and alive
    return state


def check_ports(settings: Settings, running: PipelineState | None) -> Finding:
    """Look whether the ports that are set can be listened on."""
    if running is not None:
        return fine("ports", f"a pipeline runs in this folder and answers at {running.url}")
    api, worker = settings.api, settings.worker
    health = worker.health_host, worker.health_port
    choose_port(api.host, api.port, "the API", "PENSTOCK_API__PORT")
    choose_port(*health, "the worker", "PENSTOCK_WORKER__HEALTH_PORT")
    return fine("ports", f"{_port(api.port)} (API) and {_port(worker.health_port)} (worker)")


def check_disk(folder: Path = HOME) -> Finding:
    """Look whether the folder of the state can be written and has space."""
    name = "disk"
    place = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        return problem(name, f"{place} cannot be written", "run it elsewhere, or change its owner")
    gib = shutil.disk_usage(place).free / GIB
    text = f"{gib:.1f} GiB free where {folder} lies ({place})"
    advice = "Redis's append-only file, the ledger, files and logs grow there: make space"
    if gib < NO_DISK_GIB:
        return problem(name, text, advice)
    return warning(name, text, advice) if gib < LITTLE_DISK_GIB else fine(name, text)


def check_shm(settings: Settings, folder: Path = Path("/dev/shm")) -> Finding:  # noqa: S108
    """Look whether processes of an engine can share memory."""
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
    """Look how many files and connections a process may have open."""
    name = "open files"
    found = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if soft is None else soft
    if found == resource.RLIM_INFINITY:
        return fine(name, "any number at once")
    text = f"{found} at once, each client's connection being one"
    if found < TOO_FEW_FILES:
        return problem(name, text, f"ulimit -n {FEW_FILES * 4}")
    return (
        warning(name, text, f"ulimit -n {FEW_FILES * 4}") if found < FEW_FILES else fine(name, text)
    )


def check_secret(settings: Settings) -> Finding:
    """Look at what tokens are signed with."""
    name, secret = "secret", settings.auth.jwt_secret
    setting = "PENSTOCK_AUTH__JWT_SECRET"
    new = f"make one: {setting}=$(openssl rand -hex 32)"
    if secret is None:
        text = f"{setting} is not set: `penstock up` makes one of its own"
        return fine(name, f"{text}, `penstock api` needs it")
    if len(set(secret.get_secret_value())) < SHORT_SECRET_LETTERS:
        return problem(name, f"{setting} can be guessed: it repeats a few characters", new)
    if _is_local_key(settings, StateDir()):
        advice = "clients elsewhere could sign in with what this machine keeps for development", new
        return problem(name, f"{setting} is the development secret of {HOME}", *advice)
    return fine(name, f"{setting} is set")


def _is_local_key(settings: Settings, home: StateDir) -> bool:
    """Whether an API that others reach uses the secret that `up` made for this folder."""
    if settings.api.host in LOOPBACK or settings.auth.jwt_secret is None:
        return False
    try:
        return (home.path / "jwt-secret").read_text().strip() == (
            settings.auth.jwt_secret.get_secret_value()
        )
    except OSError:
        return False


def check_private(home: Path = HOME) -> Finding:
    """Look whether others on this machine can read the secrets of `.penstock`."""
    name = "private files"
    shared = [
        path
        for path in (home / "dev-key", home / "jwt-secret")
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    if shared:
        names = " ".join(map(str, shared))
        return warning(name, f"others on this machine can read {names}", f"chmod 600 {names}")
    return fine(name, f"nobody else can read the keys in {home}")


def check_embedded(settings: Settings) -> Finding:
    """Look for the Redis that `penstock up` would start."""
    if "url" in settings.redis.model_fields_set:
        return fine("redis", "PENSTOCK_REDIS__URL names one; it is asked when the pipeline starts")
    return fine("redis", f"none is named: `penstock up` starts {find_program()}")


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
