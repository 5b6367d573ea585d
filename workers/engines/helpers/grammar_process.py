"""The program that compiles grammars: `python -m workers.engines.helpers.grammar_process`.

It compiles as vLLM's xgrammar backend does, then walks through the grammar to see what a token
costs. It imports xgrammar and not vLLM, which takes long to load.

Invariant: what passes here has less stack, memory and time than it will have in the engine, so the
engine can compile it too. A crash of native code ends a fork only.
"""

import json
import random
import time
from typing import Any

from workers.engines.helpers.helper_program import Exceeded, serve

WALKS = 2
WALK_TOKENS = 512
#: How many consecutive tokens must be expensive on average.
WINDOW = 16


class Compiler:
    """xgrammar's compiler for one tokeniser, with limits on what it may use."""

    def __init__(self, hello: bytes) -> None:
        """Create a compiler.

        Args:
            hello: JSON with `tokenizer_info` (JSON of xgrammar), and the limits `compiled_bytes`
                and `token_seconds`.
        """
        import xgrammar  # noqa: PLC0415  # it is slow to import, and the stack is limited first

        self._xgrammar = xgrammar
        self._limits = json.loads(hello)
        self._info = xgrammar.TokenizerInfo.deserialize_json(self._limits["tokenizer_info"])
        self._compiler = xgrammar.GrammarCompiler(self._info, max_threads=1, cache_enabled=False)
        self._bitmask = xgrammar.allocate_token_bitmask(1, self._info.vocab_size)
        self._stops = set(self._info.stop_token_ids)

    def answer(self, request: bytes) -> bytes:
        """Compile one grammar; return why it is invalid, or nothing.

        Raises:
            Exceeded: it needs too much of `size`, `token_cost` or `memory`.
        """
        asked = json.loads(request)
        try:
            compiled = self._compile(asked["kind"], asked["text"], asked["any_whitespace"])
            for seed in range(WALKS):
                self._walk(compiled, random.Random(seed))  # the same walk every time
        except (Exceeded, MemoryError):
            raise
        except Exception as error:  # xgrammar raises many types for a bad grammar
            if "bad_alloc" in str(error):  # native code ran out of memory
                raise Exceeded(b"memory") from error
            return (str(error)[:500] or type(error).__name__).encode(errors="replace")
        return b""

    def _compile(self, kind: str, text: str, any_whitespace: bool) -> Any:
        compiled = self._compile_any(kind, text, any_whitespace)
        if compiled.memory_size_bytes > self._limits["compiled_bytes"]:
            raise Exceeded(b"size")
        return compiled

    def _compile_any(self, kind: str, text: str, any_whitespace: bool) -> Any:
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
        """Generate as the engine would, and raise Exceeded once the tokens cost too much."""
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
                raise Exceeded(b"token_cost")

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


if __name__ == "__main__":
    serve(lambda hello: Compiler(hello).answer)
