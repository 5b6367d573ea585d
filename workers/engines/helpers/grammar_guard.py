"""Compiles each new grammar in a helper process before the engine may see it.

Requests with the same grammar share one compilation. The verdict is remembered per account, so an
account cannot push another's out.

Invariant: `check` returns True only for a grammar that a helper compiled within all limits.
"""

import asyncio
import hashlib
import json
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from core import metrics
from core.errors import InvalidJob
from core.settings.engine import EngineSettings
from workers.engines.helpers.helper_pool import HelperPool, Work
from workers.engines.helpers.helper_process import HelperLimits, HelperProcess, HelperRefused

log = structlog.get_logger()

COMMAND = (sys.executable, "-m", "workers.engines.helpers.grammar_process")
ANSWER_BYTES = 16 * 1024
#: Seconds after which a refused grammar is tried again.
REFUSED_SECONDS = 300.0
ACCOUNTS = 1024

Key = tuple[str, bytes]


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

    def __init__(self, key: Key, work: Work[GrammarVerdict]) -> None:
        self.key = key
        self.work = work
        self.waiters: dict[str, asyncio.Future[GrammarVerdict | None]] = {}

    def settle(self) -> None:
        """Give every waiter what the work ended with."""
        error = self.work.future.exception()
        for waiter in self.waiters.values():
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(self.work.future.result())
            else:
                waiter.set_exception(error)


def make_helper(
    settings: EngineSettings, tokenizer_info: str, command: Sequence[str] = COMMAND
) -> HelperProcess:
    """Return a helper that compiles grammars.

    Args:
        settings: The limits.
        tokenizer_info: JSON of xgrammar's `TokenizerInfo`.
        command: The program.
    """
    hello = {
        "tokenizer_info": tokenizer_info,
        "compiled_bytes": settings.grammar_compiled_bytes,
        "token_seconds": settings.grammar_token_seconds,
    }
    limits = HelperLimits(settings.grammar_seconds, settings.grammar_memory_bytes, ANSWER_BYTES)
    return HelperProcess("grammar helper", command, limits, lambda: json.dumps(hello).encode())


def compile_grammar(source: GrammarSource, model: str, helper: HelperProcess) -> GrammarVerdict:
    """Let a helper compile a grammar and try it; called in the helper's thread."""
    asked = {"kind": source.kind, "text": source.text, "any_whitespace": source.any_whitespace}
    began = time.monotonic()
    try:
        text = helper.ask(json.dumps(asked).encode()).decode()
        verdict = GrammarVerdict("invalid" if text else "", text)
    except HelperRefused as refused:
        verdict = GrammarVerdict(refused.reason)
    metrics.grammar_seconds.labels(model).observe(time.monotonic() - began)
    if verdict.reason:
        log.warning("grammar_refused", reason=verdict.reason, kind=source.kind)
    return verdict


class GrammarGuard:
    """The verdicts on grammars; use it from the event loop's thread only."""

    def __init__(
        self,
        settings: EngineSettings,
        tokenizer_info: str,
        *,
        progress: Callable[[], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        """Create a guard whose helpers are not started.

        Args:
            settings: The limits and the number of helpers.
            tokenizer_info: JSON of xgrammar's `TokenizerInfo`.
            progress: Called when a helper has started or ended a compilation.
            command: The program of a helper process.
        """
        self._settings = settings
        self._model = settings.served_name
        helpers = [
            make_helper(settings, tokenizer_info, command) for _ in range(settings.grammar_helpers)
        ]
        self.pool = HelperPool(helpers, progress)
        self._cache = VerdictCache(settings.grammar_cache)
        self._compilations: dict[Key, Compilation] = {}
        self._of_generation: dict[str, Compilation] = {}

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
        if not compilation.waiters and self._compilations.get(compilation.key) is compilation:
            del self._compilations[compilation.key]
            self.pool.drop(compilation.work)

    async def close(self) -> None:
        """Kill all helpers; generations that wait get EngineDead."""
        await self.pool.close()

    async def _wait(
        self, generation_id: str, key: Key, source: GrammarSource
    ) -> GrammarVerdict | None:
        compilation = self._compilations.get(key)
        if compilation is None:
            work = self.pool.submit(key[0], partial(compile_grammar, source, self._model))
            compilation = self._compilations[key] = Compilation(key, work)
            work.future.add_done_callback(lambda _: self._settle(compilation))
        waiter: asyncio.Future[GrammarVerdict | None] = asyncio.get_running_loop().create_future()
        compilation.waiters[generation_id] = waiter
        self._of_generation[generation_id] = compilation
        try:
            return await waiter
        finally:
            if waiter.cancelled():
                self.abandon(generation_id)
            self._of_generation.pop(generation_id, None)

    def _settle(self, compilation: Compilation) -> None:
        if self._compilations.get(compilation.key) is compilation:
            del self._compilations[compilation.key]
        future = compilation.work.future
        if future.exception() is None and (verdict := future.result()) is not None:
            self._cache.put(compilation.key, verdict)
        compilation.settle()

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
