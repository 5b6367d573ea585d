"""One helper process that compiles grammars, seen from the worker's event loop.

Invariant: `compile` returns within the limits or raises, and a process that exceeded one is killed,
so that nothing of a refused grammar keeps running.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from core.errors import EngineError
from core.runtime.child_process import Program, tied_to_parent
from core.settings.engine import EngineSettings
from workers.engines.vllm.grammar_process import PREFIX, frame

log = structlog.get_logger()

COMMAND = (sys.executable, "-m", "workers.engines.vllm.grammar_process")
START_SECONDS = 120.0
EXIT_SECONDS = 0.5
KILLED_SECONDS = 10.0
ANSWER_BYTES = 64 * 1024
#: A busy machine may take this many times the limit of CPU time.
WALL_FACTOR = 6.0


@dataclass(frozen=True, slots=True)
class GrammarSource:
    """A grammar as a request states it.

    Attributes:
        kind: `json`, `regex`, `grammar` (EBNF), `lark` or `structural_tag`.
        text: The grammar.
        any_whitespace: Whether JSON may contain any white space.
        field: The request field that it comes from.
    """

    kind: str
    text: str
    any_whitespace: bool
    field: str


@dataclass(frozen=True, slots=True)
class GrammarVerdict:
    """What is known of a grammar.

    Attributes:
        reason: Why it is refused; empty if it may be used.
        text: What the compiler said.
    """

    reason: str
    text: str = ""


class GrammarHelper:
    """Starts the process when it is needed, and again after each kill.

    Attributes:
        compiled_seconds: How long the last compilation took.
        working: Whether a grammar is being compiled now.
    """

    def __init__(
        self, settings: EngineSettings, tokenizer_info: str, command: Sequence[str] = COMMAND
    ) -> None:
        """Create a helper whose process is not started.

        Args:
            settings: The limits.
            tokenizer_info: JSON of xgrammar's `TokenizerInfo`.
            command: The program of the process.
        """
        self._seconds = settings.grammar_seconds
        self._command = command
        self._hello = {
            "tokenizer_info": tokenizer_info,
            "seconds": settings.grammar_seconds,
            "memory_bytes": settings.grammar_memory_bytes,
            "compiled_bytes": settings.grammar_compiled_bytes,
            "token_seconds": settings.grammar_token_seconds,
        }
        self._process: asyncio.subprocess.Process | None = None
        self.compiled_seconds = 0.0
        self.working = False

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is no process."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process and wait until it can compile, unless it runs already.

        Raises:
            EngineError: it did not start.
        """
        if self._process is not None and self._process.returncode is None:
            return
        program = Program("grammar helper", self._command, Path(os.devnull))
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        # A session is a process group, too; uvloop, the worker's loop, knows no `process_group`.
        self._process = await asyncio.create_subprocess_exec(
            *tied_to_parent(program), stdin=pipe, stdout=pipe, stderr=null, start_new_session=True
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                answer = await self._exchange(self._hello)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            code = await self.kill()
            raise EngineError(f"the grammar helper did not start: exit code {code}") from error
        except asyncio.CancelledError:
            await self.kill()
            raise
        if "failed" in answer:
            await self.kill()
            raise EngineError(f"the grammar helper did not start: {answer['failed']}")

    async def compile(self, source: GrammarSource) -> GrammarVerdict:
        """Compile one grammar and try it; the process must be started.

        Args:
            source: The grammar.

        Returns:
            Whether it may be used. A process that exceeded a limit or crashed is gone afterwards.
        """
        began = time.monotonic()
        self.working = True
        try:
            async with asyncio.timeout(WALL_FACTOR * self._seconds):
                answer = await self._exchange(
                    {
                        "kind": source.kind,
                        "text": source.text,
                        "any_whitespace": source.any_whitespace,
                    }
                )
            verdict = GrammarVerdict(answer["reason"], answer["text"])
        except TimeoutError:
            await self.kill()
            return GrammarVerdict("time")
        except asyncio.CancelledError:
            await self.kill()
            raise
        except (OSError, asyncio.IncompleteReadError, ValueError, KeyError):
            code = await self.kill()
            return GrammarVerdict("time" if code == -signal.SIGPROF else "crash")
        else:
            if verdict.reason == "memory":
                await self.kill()  # its heap is full
            return verdict
        finally:
            self.working = False
            self.compiled_seconds = time.monotonic() - began

    async def kill(self) -> int:
        """Kill the process and all that it started; return its exit code when it is gone."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with suppress(TimeoutError):
            if process.stdout is not None and process.stdout.at_eof():
                # It exits by itself: its own exit code tells why.
                await asyncio.wait_for(asyncio.shield(process.wait()), EXIT_SECONDS)
        with suppress(ProcessLookupError):  # it has exited
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdin is not None:
            process.stdin.close()  # on uvloop, `wait` waits for the pipes, too
        try:
            return await asyncio.wait_for(process.wait(), KILLED_SECONDS)
        finally:
            process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001  # its pipes

    async def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(await asyncio.to_thread(frame, message))
        await process.stdin.drain()
        (length,) = PREFIX.unpack(await process.stdout.readexactly(PREFIX.size))
        if length > ANSWER_BYTES:
            raise ValueError(f"an answer of {length} bytes is too long")
        answer: dict[str, Any] = json.loads(await process.stdout.readexactly(length))
        return answer
