"""What must hold before anything starts; each check raises a Failure that says what to change."""

import ctypes
import socket
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from cli.terminal.failures import Failure
from core.settings.engine import EngineSettings

#: What a worker with the CPU build of vLLM takes before its KV cache, measured with the tiny model.
CPU_WORKER_GIB = 2.0
GIB = 1024**3
#: What the kernels of that build are linked against, and no wheel brings.
NUMA = "libnuma.so.1"


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


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port nobody listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


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


def available_gib() -> float | None:
    """Return the memory that can be had, by the machine and by the container; None if unknown."""
    found = []
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) * 1024)
    with suppress(OSError, ValueError):  # "max" is no number: no limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        found.append(limit - used + int(stat.get("inactive_file", 0)))  # files can be dropped
    return min(found) / GIB if found else None


def check_memory(engine: EngineSettings, available: float | None) -> None:
    """Raise Failure when a vLLM worker on the CPU would not fit."""
    needed = CPU_WORKER_GIB + engine.kv_cache_gib
    if engine.kind != "vllm" or available is None or available >= needed:
        return
    raise Failure(
        f"{available:.1f} GiB of memory is available; the worker needs {needed:.1f} GiB",
        f"vLLM itself takes {CPU_WORKER_GIB} GiB, its KV cache {engine.kv_cache_gib} GiB "
        "(PENSTOCK_ENGINE__KV_CACHE_GIB)",
        "close something, or use a larger machine",
    )


def check_kernels(engine: EngineSettings, library: str = NUMA) -> None:
    """Raise Failure when vLLM's kernels for the CPU could not load."""
    if engine.kind != "vllm" or find_spec("vllm") is None or _has_gpu():
        return
    try:
        ctypes.CDLL(library)
    except OSError:
        raise Failure(
            f"{library} is missing, without which vLLM cannot run on the CPU",
            "apt-get install libnuma1 (Debian, Ubuntu), dnf install numactl-libs (Fedora)",
        ) from None


def _has_gpu() -> bool:
    return Path("/dev/nvidiactl").exists()


def check_model(engine: EngineSettings) -> None:
    """Raise Failure when the model is a path and nothing is there; names are left to vLLM."""
    model = engine.model
    path = Path(model).expanduser()
    looks_like_path = model.startswith(("/", "./", "../", "~")) or model.count("/") > 1
    if engine.kind != "vllm" or path.exists() or not looks_like_path:
        return
    raise Failure(
        f"there is no model at {model}",
        "PENSTOCK_ENGINE__MODEL takes a folder with config.json, or a name on the model hub",
    )
