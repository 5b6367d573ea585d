"""Reads the available memory and the number of processes killed because memory ran out.

Invariant: a value that this system does not provide is None, never a guess.
"""

import time
from collections import deque
from contextlib import suppress
from pathlib import Path

GIB = 1024**3
MEMINFO = Path("/proc/meminfo")
VMSTAT = Path("/proc/vmstat")
CGROUP = Path("/sys/fs/cgroup")
#: How long readings are kept. When a death is noticed, the memory of the killed process is free
#: again, so only earlier readings show the shortage.
KEPT_SECONDS = 10.0


def available_gib() -> float | None:
    """Return the memory available in this machine and container, in GiB; None if unknown."""
    found = []
    with suppress(OSError, StopIteration):
        lines = MEMINFO.read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) * 1024)
    with suppress(OSError, ValueError):  # "max" is not a number: no limit
        limit, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        found.append(limit - used + int(stat.get("inactive_file", 0)))  # files can be dropped
    return min(found) / GIB if found else None


def oom_kills(vmstat: Path = VMSTAT, cgroup: Path = CGROUP) -> int | None:
    """Return how many processes the kernel killed for lack of memory since boot; None: unknown."""
    found = []
    for path in (vmstat, cgroup / "memory.events"):
        with suppress(OSError, ValueError):
            lines = path.read_text().splitlines()
            found += [int(line.split()[1]) for line in lines if line.startswith("oom_kill ")]
    return max(found, default=None)


class MemoryWatch:
    """The readings of the last `KEPT_SECONDS`."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, float | None, int | None]] = deque()

    def read(self) -> None:
        """Take a reading."""
        now = time.monotonic()
        self._readings.append((now, available_gib(), oom_kills()))
        while self._readings[0][0] < now - KEPT_SECONDS:
            self._readings.popleft()

    def lowest(self) -> float | None:
        """Return the least available memory of these readings, in GiB; None: unknown."""
        return min((gib for _, gib, _ in self._readings if gib is not None), default=None)

    def kills(self) -> int | None:
        """Return how many processes the kernel killed in that time; None: unknown."""
        before = next((kills for _, _, kills in self._readings if kills is not None), None)
        now = oom_kills()
        return None if before is None or now is None else now - before
