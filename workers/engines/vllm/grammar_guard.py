"""Compiles each new grammar in a helper process before the engine may see it.

Accounts take turns; within an account, grammars are compiled in the order of arrival. Requests with
the same grammar share one compilation. The verdict is remembered per account, so an account cannot
push another's out.

Invariant: `check` returns True only for a grammar that a helper compiled within all limits.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import structlog

from core import metrics
from core.errors import EngineDead, EngineError, InvalidJob
from core.settings.engine import EngineSettings
from workers.engines.vllm.grammar_helper import (
    COMMAND,
    GrammarHelper,
    GrammarSource,
    GrammarVerdict,
)

log = structlog.get_logger()

#: Seconds after which a refused grammar is tried again.
REFUSED_SECONDS = 300.0
ACCOUNTS = 1024

Key = tuple[str, bytes]
Verdicts = OrderedDict[bytes, tuple[GrammarVerdict, float]]


class VerdictCache:
    """The latest verdicts, bounded for each account and in the number of accounts."""

    def __init__(self, entries: int) -> None:
        """Create an empty cache.

        Args:
            entries: Maximum number of verdicts per account.
        """
        self._entries = entries
        self._accounts: OrderedDict[str, OrderedDict[bytes, tuple[GrammarVerdict, float]]] = (
            OrderedDict()
        )

    def get(self, key: Key) -> GrammarVerdict | None:
        """Return the verdict; None if there is none, or if a refusal is old."""
        account, digest = key
        known = self._accounts.get(account, OrderedDict())
        if digest not in known:
            return None
        verdict, at = known[digest]
        if verdict.reason and time.monotonic() - at > REFUSED_SECONDS:
            del known[digest]
            return None
        known.move_to_end(digest)
        self._accounts.move_to_end(account)
        return verdict

    def put(self, key: Key, verdict: GrammarVerdict) -> None:
        """Remember a verdict; the account's oldest one may be dropped for it."""
        account, digest = key
        known = self._accounts.setdefault(account, OrderedDict())
        known[digest] = verdict, time.monotonic()
        known.move_to_end(digest)
        self._accounts.move_to_end(account)
        if len(known) > self._entries:
            known.popitem(last=False)
        if len(self._accounts) > ACCOUNTS:
            self._accounts.popitem(last=False)


class Compilation:
    """One grammar that waits for a helper or is in one, with the generations that wait for it."""

    def __init__(self, key: Key, source: GrammarSource) -> None:
        self.key = key
        self.source = source
        self.waiters: dict[str, asyncio.Future[GrammarVerdict | None]] = {}
        self.task: asyncio.Task[GrammarVerdict] | None = None

    def settle(
        self, verdict: GrammarVerdict | None, error: EngineError | EngineDead | None
    ) -> None:
        """Answer every waiter."""
        for waiter in self.waiters.values():
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(verdict)
            else:
                waiter.set_exception(error)


class GrammarGuard:
    """A pool of helper processes with a queue; use it from the event loop's thread only."""

    def __init__(
        self,
        settings: EngineSettings,
        tokenizer_info: str,
        *,
        progress: Callable[[], None],
        dead: Callable[[EngineDead], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        """Create a guard whose helpers are not started.

        Args:
            settings: The limits and the number of helpers.
            tokenizer_info: JSON of xgrammar's `TokenizerInfo`.
            progress: Called when a helper has started or ended a compilation.
            dead: Called once if grammars can no longer be compiled.
            command: The program of a helper process.
        """
        self._settings = settings
        self._model = settings.served_name
        self._progress = progress
        self._helpers = [
            GrammarHelper(settings, tokenizer_info, command)
            for _ in range(settings.grammar_helpers)
        ]
        self._cache = VerdictCache(settings.grammar_cache)
        self._queues: OrderedDict[str, deque[Compilation]] = OrderedDict()
        self._compilations: dict[Key, Compilation] = {}
        self._of_generation: dict[str, Compilation] = {}
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._on_death = dead
        self._failed: EngineDead | None = None

    @property
    def pids(self) -> list[int]:
        """The ids of the helper processes that run."""
        return [helper.pid for helper in self._helpers if helper.pid is not None]

    @property
    def waiting(self) -> int:
        """How many grammars wait for a helper or are in one."""
        return len(self._compilations)

    async def check(self, generation_id: str, account: str, source: GrammarSource) -> bool:
        """Wait until a helper has compiled a grammar.

        Args:
            generation_id: Who waits; see `abandon`.
            account: Whose request it is.
            source: The grammar.

        Returns:
            True if the engine may compile it; False if the generation was abandoned.

        Raises:
            InvalidJob: the grammar is refused.
            EngineError: no helper could be started.
            EngineDead: the guard was closed.
        """
        if self._failed is not None:
            raise self._failed
        key = account, self._digest(source)
        verdict = self._cache.get(key)
        if verdict is None:
            verdict = await self._wait(generation_id, key, source)
        if verdict is None:
            return False
        if verdict.reason:
            metrics.grammar_refused.labels(self._model, verdict.reason).inc()
            raise InvalidJob(self._describe(verdict), param=source.field)
        return True

    def abandon(self, generation_id: str) -> None:
        """Stop waiting for a generation, and stop its compilation if no other one waits for it."""
        compilation = self._of_generation.pop(generation_id, None)
        if compilation is None:
            return
        waiter = compilation.waiters.pop(generation_id)
        if not waiter.done():
            waiter.set_result(None)
        if compilation.waiters or self._compilations.get(compilation.key) is not compilation:
            return
        del self._compilations[compilation.key]
        if compilation.task is not None:
            compilation.task.cancel()
        else:
            self._queues[compilation.key[0]].remove(compilation)

    async def close(self) -> None:
        """Kill all helpers; generations that wait get EngineDead."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for compilation in self._compilations.values():
            compilation.settle(None, EngineDead("the engine was closed", from_outside=True))
        for helper in self._helpers:
            await helper.kill()

    def start(self) -> None:
        """Start the helpers in the background, so that the first grammar does not wait for them."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._serve(helper)) for helper in self._helpers]
            for task in self._tasks:
                task.add_done_callback(self._on_served)

    def _on_served(self, task: asyncio.Task[None]) -> None:
        """Report that a helper is served no longer: requests would wait for it without end."""
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        log.critical("grammar_guard_failed", exc_info=error)
        self._failed = EngineDead(f"the grammar guard died of {type(error).__name__}")
        for compilation in self._compilations.values():
            compilation.settle(None, self._failed)
        self._on_death(self._failed)

    async def _wait(
        self, generation_id: str, key: Key, source: GrammarSource
    ) -> GrammarVerdict | None:
        compilation = self._compilations.get(key)
        if compilation is None:
            compilation = self._compilations[key] = Compilation(key, source)
            self._queues.setdefault(key[0], deque()).append(compilation)
            self._arrived.set()
        self.start()
        waiter: asyncio.Future[GrammarVerdict | None] = asyncio.get_running_loop().create_future()
        compilation.waiters[generation_id] = waiter
        self._of_generation[generation_id] = compilation
        try:
            return await waiter
        finally:
            if waiter.cancelled():
                self.abandon(generation_id)
            self._of_generation.pop(generation_id, None)

    async def _serve(self, helper: GrammarHelper) -> None:
        """Compile grammars with one helper, one at a time."""
        while True:
            await self._revive(helper)
            compilation = await self._next()
            verdict, error = None, None
            compilation.task = asyncio.create_task(self._compile(helper, compilation.source))
            try:
                verdict = await compilation.task
            except asyncio.CancelledError:
                if self._closing:
                    compilation.task.cancel()
                    raise
                continue  # it was abandoned
            except EngineError as failure:
                log.exception("grammar_helper_failed")
                error = failure
            if self._compilations.get(compilation.key) is compilation:
                del self._compilations[compilation.key]
            if verdict is not None:
                self._cache.put(compilation.key, verdict)
            compilation.settle(verdict, error)
            self._progress()

    async def _revive(self, helper: GrammarHelper) -> None:
        """Start a helper that was killed, before it is needed; a job reports why it cannot."""
        try:
            await helper.start()
        except EngineError:
            log.exception("grammar_helper_failed")

    async def _compile(self, helper: GrammarHelper, source: GrammarSource) -> GrammarVerdict:
        await helper.start()
        self._progress()
        verdict = await helper.compile(source)
        metrics.grammar_seconds.labels(self._model).observe(helper.compiled_seconds)
        if verdict.reason:
            log.warning("grammar_refused", reason=verdict.reason, kind=source.kind)
        return verdict

    async def _next(self) -> Compilation:
        """Return the next compilation of the account whose turn it is."""
        while True:
            for account in list(self._queues):
                queue = self._queues.pop(account)
                if not queue:
                    continue
                compilation = queue.popleft()
                if queue:
                    self._queues[account] = queue  # at the end: the others come first
                return compilation
            self._arrived.clear()
            await self._arrived.wait()

    def _digest(self, source: GrammarSource) -> bytes:
        parts = (source.kind, str(source.any_whitespace), source.text)
        return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).digest()

    def _describe(self, verdict: GrammarVerdict) -> str:
        """Return the text that the client sees."""
        limits = self._settings
        texts = {
            "time": f"takes more than {limits.grammar_seconds:g} s to compile",
            "memory": f"takes more than {limits.grammar_memory_bytes} bytes to compile",
            "size": f"is larger than {limits.grammar_compiled_bytes} bytes when it is compiled",
            "token_cost": f"takes more than {limits.grammar_token_seconds:g} s a token; it may be"
            " ambiguous",
            "invalid": f"is invalid: {verdict.text}",
            "crash": "could not be compiled",
        }
        return f"the grammar {texts[verdict.reason]}"
