"""What a process started by a test inherits: what a shell has, and nothing of this process's own.

An engine that runs in the test process sets vLLM's variables, which would choose for every process
that is started after it.
"""

import os

OWN = ("PENSTOCK_", "VLLM_")


def inherited() -> dict[str, str]:
    """Return this process's environment without our settings and without vLLM's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
