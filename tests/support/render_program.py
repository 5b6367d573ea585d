"""Stands in for a render helper's program: a text says what happens when it is tokenised."""

import json
import os
import signal
import time
from array import array

from workers.engines.helpers.helper_program import Exceeded, Work, serve
from workers.engines.helpers.render_process import IDS


def prepare(_: bytes) -> Work:
    """Return the work."""
    return work


def work(request: bytes) -> bytes:
    """Obey one request; a plain text of n characters has the ids 1 to n."""
    text = json.loads(request)["text"]
    if text == "spin":
        while True:
            time.perf_counter()
    if text == "hang":
        signal.pause()
    if text == "grow":
        raise Exceeded(b"size")
    if text == "fill":
        bytearray(2**40)
    if text == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    return IDS + array("I", range(1, len(text) + 1)).tobytes()


if __name__ == "__main__":
    serve(prepare)
