"""The sizes of Redis's append-only files over time.

Invariant: a copy that was cut back holds no byte that Redis had not promised to be on the disk.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SAMPLE_SECONDS = 0.01


class FileSizes:
    """The sizes of the append-only files over time, so that a copy can be cut back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._samples: list[tuple[float, dict[str, int]]] = []
        self._stop = threading.Event()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Record the sizes while the block runs."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        yield
        self._stop.set()
        thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            sizes = {file.name: file.stat().st_size for file in self._folder.glob("*.incr.aof")}
            self._samples.append((time.perf_counter(), sizes))
            time.sleep(SAMPLE_SECONDS)

    def cut(self, copy: Path, seconds: float) -> None:
        """Truncate the copy's files to their sizes `seconds` before the last sample."""
        last = self._samples[-1][0]
        held = [sizes for at, sizes in self._samples if at <= last - seconds][-1]
        for name, size in held.items():
            with (copy / name).open("r+b") as file:
                file.truncate(size)
