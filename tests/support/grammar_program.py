"""Stands in for a grammar helper's program: the text of a grammar says what it does."""

import os
import signal
import sys
import time

from workers.engines.vllm.grammar_process import frame, read_frame


def main() -> None:
    """Obey one request after the other."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    hello = read_frame(source)
    assert hello is not None
    if hello["tokenizer_info"] == "broken":
        target.write(frame({"failed": "this tokeniser is broken"}))
        return
    target.write(frame({"ready": True}))
    target.flush()
    while (request := read_frame(source)) is not None:
        text = request["text"]
        if text.startswith("hang"):
            signal.pause()
        elif text.startswith("spin"):
            signal.setitimer(signal.ITIMER_PROF, hello["seconds"])
            while True:
                time.perf_counter()
        elif text.startswith("crash"):
            os.kill(os.getpid(), signal.SIGSEGV)
        elif text.startswith("flood"):
            target.write(b"\xff" * 1_000_000)
            target.flush()
        elif text.startswith("exit"):
            return
        reason = "invalid" if text.startswith("bad") else ""
        target.write(frame({"reason": reason, "text": f"{os.getpid()}"}))
        target.flush()


if __name__ == "__main__":
    main()
