"""The environment of processes that tests start: the shell's, without this process's changes.

An engine that runs in the test process sets vLLM's variables, which would change every process
started after it.
"""

import os

OWN = ("PENSTOCK_", "VLLM_")


def inherited() -> dict[str, str]:
    """Return this process's environment without our settings and without vLLM's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
