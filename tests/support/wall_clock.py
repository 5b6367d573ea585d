"""Moves the wall clock of processes that a test starts; the test's and Redis's stay true."""

from pathlib import Path

from tests.support.programs import require


class WallClock:
    """Debian's libfaketime, which reads the offset from a file once a second.

    Invariant: the monotonic clock never changes.
    """

    def __init__(self, directory: Path) -> None:
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        self._library = require(str(library or ""), "libfaketime (Debian's package faketime)")
        self._offset = directory / "clock-offset"
        self.move(0)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that give a process this clock."""
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
            "COVERAGE_PROCESS_CONFIG": "",  # with this library, its measuring does not end
        }

    def move(self, seconds: int) -> None:
        """Set the offset from the true time."""
        new = self._offset.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._offset)
