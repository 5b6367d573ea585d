"""`python -IS json_lines.py PROCESS`: makes a JSON line of every line on its standard input.

A process that logs JSON starts it for what libraries, native code and its child processes print.
It is a process of its own, so that the last words of one that crashes are not lost. It needs only
Python's standard library. Invariant: a line that is a JSON object already passes through unchanged,
and it ends when the last writer is gone.
"""

import json
import signal
import sys
from datetime import UTC, datetime


def wrapped(line: str, process: str) -> str:
    """Return a line as one JSON object, with the fields of every log line."""
    try:
        is_object = isinstance(json.loads(line), dict)
    except ValueError:
        is_object = False
    if is_object:
        return line
    fields = {
        "event": line,
        "process": process,
        "logger": "output",
        "level": "warning",
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    return json.dumps(fields)


def main() -> None:
    """Read until the end; signals to the process group do not end it earlier."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    for raw in sys.stdin.buffer:
        # A progress bar writes its states into one line; the last one is what remains of it.
        line = raw.decode(errors="replace").rstrip("\n").rpartition("\r")[2].strip()
        if line:
            sys.stdout.write(wrapped(line, sys.argv[1]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
