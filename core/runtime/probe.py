"""`python -m core.runtime.probe URL`: a container's health check.

With it, the image needs neither a shell nor curl. Invariant: the exit code is 0 for a 200 answer,
else 1 with the reason on standard error; it takes at most 4 s.
"""

import sys
import urllib.error
import urllib.request

SECONDS = 4.0


def ask(url: str) -> str | None:
    """Return the problem as text, or None when there is none."""
    # The address is local, so a proxy of the environment must not be used.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=SECONDS) as answer:
            return None if answer.status == 200 else f"status {answer.status}"
    except urllib.error.HTTPError as error:
        return f"status {error.code}: {error.read(500).decode(errors='replace')}"
    except (OSError, ValueError) as error:
        return str(error)


def main() -> int:
    """Entry point; returns the exit code."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m core.runtime.probe URL\n")
        return 2
    problem = ask(sys.argv[1])
    if problem is None:
        return 0
    sys.stderr.write(f"{problem}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
