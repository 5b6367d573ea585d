"""A wall clock that a test moves, for the processes it starts; its own and Redis's stay true."""

from pathlib import Path

from tests.support.programs import require


class WallClock:
    """Debian's libfaketime, told by a file that it looks at once a second.

    Invariant: the monotonic clock is never touched.
    """

    def __init__(self, directory: Path) -> None:
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        self._library = require(str(library or ""), "libfaketime (Debian's package faketime)")
        self._offset = directory / "clock-offset"
        self.move(0)

    def environment(self) -> dict[str, str]:
        """Return the variables that put a process under this clock."""
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
        }

    def move(self, seconds: int) -> None:
        """Let it be this far from the true time from now on."""
        new = self._offset.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._offset)
