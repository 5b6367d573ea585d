"""Renders a process's metrics for its scraper: Prometheus text or OpenMetrics.

One process is one target. Several API processes behind one port share `PROMETHEUS_MULTIPROC_DIR`, a
directory that is empty when the first of them starts; then each of them answers for all. Invariant:
gauges of a process that has ended do not count, and a damaged file hides no other.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

log = structlog.get_logger()

#: What reading a file raises whose bytes make no sense.
DAMAGE = (AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError, struct.error)

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


class ScrapeCollector(Collector):
    """A collector that reads only at a scrape."""

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering it does not read anything."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Return what can be read now."""
        raise NotImplementedError


class BuildInfo(ScrapeCollector):
    """The version and the kind of the process."""

    def __init__(self, process: str) -> None:
        self._labels = {"version": version("penstock"), "process": process}

    def collect(self) -> Iterator[Metric]:
        """Return `penstock_build_info`."""
        yield InfoMetricFamily("penstock_build", "What runs here", value=self._labels)


class SharedDirectory(ScrapeCollector):
    """The metrics of all processes that share a directory; a damaged file hides no other."""

    def __init__(self, directory: Path, reported: set[Path]) -> None:
        """Read nothing yet.

        Args:
            directory: Where each process keeps files of its own.
            reported: The damaged files that were logged before; new ones are added.
        """
        self._directory = directory
        self._reported = reported

    def collect(self) -> Iterator[Metric]:
        """Return the merged metrics, and how many files could not be read."""
        whole: list[str] = []
        damaged = 0
        for path in sorted(self._directory.glob("*.db")):
            try:
                MultiProcessCollector.merge([str(path)])  # type: ignore[no-untyped-call]
            except FileNotFoundError:
                continue  # its process ended meanwhile
            except DAMAGE:
                damaged += 1
                if path not in self._reported:
                    self._reported.add(path)
                    log.exception("metrics_file_damaged", file=path.name)
            else:
                whole.append(str(path))
        yield from MultiProcessCollector.merge(whole)  # type: ignore[no-untyped-call]
        text = "Files of the shared metrics directory that cannot be read: remove them"
        yield GaugeMetricFamily("penstock_metrics_files_damaged", text, value=float(damaged))


class Exposition:
    """The metrics of one process: common ones, registries of `core.metrics`, its own collectors."""

    def __init__(self, process: str, *collectors: Collector) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._own = [item for item in collectors if isinstance(item, CollectorRegistry)]
        self._lazy = [item for item in collectors if not isinstance(item, CollectorRegistry)]
        self._lazy.append(BuildInfo(process))
        self._reported: set[Path] = set()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their content type, as an `Accept` header asks for them."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry()), content_type

    def _registry(self) -> CollectorRegistry:
        registry = CollectorRegistry(auto_describe=False)
        directory = os.environ.get(DIRECTORY)
        if directory:
            forget_dead_processes(Path(directory))
            registry.register(SharedDirectory(Path(directory), self._reported))
        shown = [] if directory else [REGISTRY, *self._own]
        for collector in (*shown, *self._lazy):
            registry.register(collector)
        return registry


def forget_dead_processes(directory: Path) -> None:
    """Remove the gauges of processes that have ended; their counters stay."""
    pids = {path.stem.rpartition("_")[2] for path in directory.glob("gauge_live*_*.db")}
    for pid in pids:
        if pid.isdigit() and not _lives(int(pid)):
            with suppress(FileNotFoundError):  # another process removed it first
                mark_process_dead(int(pid), str(directory))  # type: ignore[no-untyped-call]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
