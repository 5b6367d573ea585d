"""The child that compiles grammars: `python -m workers.engines.vllm.grammar_process`.

It reads one request at a time from standard input and answers with a verdict. It compiles as vLLM's
xgrammar backend does, then walks through the grammar to see what a token costs. It imports xgrammar
and not vLLM, because it is started again after each kill.

Invariant: what passes here has less stack, memory and time than it will have in the engine, so the
engine can compile it too. A crash of native code ends this process only.
"""

import json
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback
from typing import Any, BinaryIO

#: Bytes of stack, for the main thread and for those of native code; the engine's have 8 MiB.
STACK_BYTES = 2 * 1024 * 1024
NICENESS = 5
WALKS = 2
WALK_TOKENS = 512
#: How many consecutive tokens must be expensive on average.
WINDOW = 16
PREFIX = struct.Struct(">I")


def read_frame(stream: BinaryIO) -> dict[str, Any] | None:
    """Return the next message; None at the end of the stream."""
    prefix = stream.read(PREFIX.size)
    if len(prefix) < PREFIX.size:
        return None
    message: dict[str, Any] = json.loads(stream.read(PREFIX.unpack(prefix)[0]))
    return message


def frame(message: dict[str, Any]) -> bytes:
    """Return a message with its length before it, as both sides of the pipe read it."""
    data = json.dumps(message).encode()
    return PREFIX.pack(len(data)) + data


class TooExpensive(Exception):
    """The walk found tokens that cost more than the limit."""


class Compiler:
    """xgrammar's compiler for one tokeniser, with limits on what it may use."""

    def __init__(self, hello: dict[str, Any]) -> None:
        """Create a compiler.

        Args:
            hello: The first message: `tokenizer_info` (JSON of xgrammar), and the limits `seconds`
                (of CPU time), `memory_bytes`, `compiled_bytes` and `token_seconds`.
        """
        import xgrammar  # noqa: PLC0415  # it is slow to import, and the stack is limited first

        self._xgrammar = xgrammar
        self._limits = hello
        self._info = xgrammar.TokenizerInfo.deserialize_json(hello["tokenizer_info"])
        self._compiler = xgrammar.GrammarCompiler(self._info, max_threads=1, cache_enabled=False)
        self._bitmask = xgrammar.allocate_token_bitmask(1, self._info.vocab_size)
        self._stops = set(self._info.stop_token_ids)
        self._limit_memory()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Compile one grammar and return the verdict: `reason` is empty if it may be used."""
        signal.setitimer(signal.ITIMER_PROF, self._limits["seconds"])  # its signal kills
        try:
            compiled = self._compile(request["kind"], request["text"], request["any_whitespace"])
            size = compiled.memory_size_bytes
            if size > self._limits["compiled_bytes"]:
                return {"reason": "size", "text": f"{size} bytes"}
            for seed in range(WALKS):
                self._walk(compiled, random.Random(seed))  # the same walk every time
        except MemoryError:
            return {"reason": "memory", "text": ""}
        except TooExpensive:
            return {"reason": "token_cost", "text": ""}
        except Exception as error:  # noqa: BLE001  # xgrammar raises many types for a bad grammar
            if "bad_alloc" in str(error):  # native code ran out of memory
                return {"reason": "memory", "text": ""}
            return {"reason": "invalid", "text": str(error)[:500] or type(error).__name__}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        return {"reason": "", "text": ""}

    def _compile(self, kind: str, text: str, any_whitespace: bool) -> Any:
        separators = None if any_whitespace else (",", ":")
        if kind == "json":
            return self._compiler.compile_json_schema(
                text, any_whitespace=any_whitespace, separators=separators
            )
        if kind == "regex":
            return self._compiler.compile_regex(text)
        if kind == "lark":
            return self._compiler.compile_lark(text)
        if kind == "grammar":
            return self._compiler.compile_grammar(text)
        return self._structural_tag(text)

    def _structural_tag(self, text: str) -> Any:
        tag = json.loads(text)
        if "structures" not in tag:
            return self._compiler.compile_structural_tag(text)
        item = self._xgrammar.StructuralTagItem
        items = [
            item(begin=s["begin"], schema=json.dumps(s["schema"]), end=s["end"])
            for s in tag["structures"]
        ]
        return self._compiler.compile_structural_tag(items, tag["triggers"])

    def _walk(self, compiled: Any, choice: random.Random) -> None:
        """Generate as the engine would, and raise TooExpensive once the tokens cost too much."""
        matcher = self._xgrammar.GrammarMatcher(compiled)
        costs: list[float] = []
        while len(costs) < WALK_TOKENS and not matcher.is_terminated():
            began = time.thread_time()
            matcher.fill_next_token_bitmask(self._bitmask)
            filled = time.thread_time() - began
            allowed = self._allowed()
            if not allowed:
                if not costs and not self._may_end():
                    raise ValueError("no text fits the grammar")
                return
            token = choice.choice(allowed)
            began = time.thread_time()
            matcher.accept_token(token)
            costs.append(filled + time.thread_time() - began)
            recent = costs[-WINDOW:]
            if len(costs) >= WINDOW and sum(recent) > WINDOW * self._limits["token_seconds"]:
                raise TooExpensive

    def _allowed(self) -> list[int]:
        """Return the tokens that may follow, without those that end the text."""
        words = self._bitmask[0].tolist()
        return [
            token
            for index, word in enumerate(words)
            if word
            for token in range(index * 32, index * 32 + 32)
            if word >> (token % 32) & 1 and token not in self._stops
        ]

    def _may_end(self) -> bool:
        """Return whether the text may end here."""
        words = self._bitmask[0].tolist()
        return any(words[token // 32] >> (token % 32) & 1 for token in self._stops)

    def _limit_memory(self) -> None:
        """Let the address space grow by the limit, from what the imports take."""
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123  # lean imports
            now = int(statm.read().split()[0]) * resource.getpagesize()
        most = now + int(self._limits["memory_bytes"])
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def limit_stack() -> None:
    """Replace this process by itself with a small stack; native threads take it at the start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if soft != STACK_BYTES and (hard == resource.RLIM_INFINITY or hard >= STACK_BYTES):
        resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES, hard))
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  # the same command


def main() -> None:
    """Answer requests until standard input ends."""
    limit_stack()
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this process
    source = sys.stdin.buffer
    target = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what native code prints must not reach the pipe
    hello = read_frame(source)
    if hello is None:
        return
    try:
        compiler = Compiler(hello)
    except Exception:  # noqa: BLE001  # the parent raises it
        target.write(frame({"failed": traceback.format_exc(limit=3)[-2000:]}))
        return
    target.write(frame({"ready": True}))
    while (request := read_frame(source)) is not None:
        target.write(frame(compiler.answer(request)))


if __name__ == "__main__":
    main()
