"""Stands in for a grammar helper's program: the text of a grammar says what it does."""

import json
import os
import signal
import time

from workers.engines.helpers.helper_program import Work, serve


def prepare(hello: bytes) -> Work:
    """Return the work, unless the tokeniser is said to be broken."""
    if json.loads(hello)["tokenizer_info"] == "broken":
        raise ValueError("this tokeniser is broken")
    return work


def work(request: bytes) -> bytes:
    """Obey one request."""
    text = json.loads(request)["text"]
    if text.startswith("hang"):
        signal.pause()
    elif text.startswith("spin"):
        while True:
            time.perf_counter()
    elif text.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    elif text.startswith("kill program"):
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()
    elif text.startswith("flood"):
        return b"\xff" * 1_000_000
    elif text.startswith("raise"):
        raise ValueError("unexpected")
    return b"a bad grammar" if text.startswith("bad") else b""


if __name__ == "__main__":
    serve(prepare)
