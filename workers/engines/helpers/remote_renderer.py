"""Renders large requests in threads whose chat template and tokeniser run in helper processes.

A request is large by its size, not by its contents, so the check costs microseconds. Small
requests are rendered by the engine's own thread.

Invariant: a large request delays requests of other accounts by at most one large request for each
helper, and small requests not at all.
"""

import json
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import structlog
from jinja2 import TemplateError

from core import metrics
from core.errors import EngineError, InvalidJob
from core.settings.engine import EngineSettings
from workers.engines.base import Generation
from workers.engines.helpers.helper_pool import HelperPool, Work
from workers.engines.helpers.helper_process import HelperLimits, HelperProcess, HelperRefused
from workers.engines.helpers.render_process import IDS, REASON, TEXT
from workers.engines.media_parts import media_fields

log = structlog.get_logger()

R = TypeVar("R")

COMMAND = (sys.executable, "-m", "workers.engines.helpers.render_process")
#: What one message, number or other value counts, in characters.
VALUE_CHARACTERS = 4
MESSAGE_CHARACTERS = 80
#: Bytes of an answer for each character of a prompt: a token id, or the longest UTF-8 sequence.
ANSWER_FACTOR = 4


class RemoteTokeniser:
    """The engine's tokeniser in a helper process; one thread uses it for one request.

    Attributes:
        inline_characters: A text that is not longer is not worth a fork; tokenise it here.
        failure: Why the request cannot be rendered; vLLM turns errors into others on their way.
    """

    def __init__(self, helper: HelperProcess, settings: EngineSettings) -> None:
        self._helper = helper
        self._settings = settings
        self.inline_characters = settings.render_inline_characters
        self.failure: InvalidJob | EngineError | None = None

    def apply_chat_template(self, options: Mapping[str, Any]) -> str:
        """Return the rendered chat.

        Raises:
            TemplateError: the template refuses the chat.
            InvalidJob: a limit was exceeded; also in `failure`.
            EngineError: the helper failed; also in `failure`.
        """
        answer = self._ask({"options": options})
        if answer.startswith(REASON):
            raise TemplateError(answer[1:].decode(errors="replace"))
        assert answer.startswith(TEXT)
        return answer[1:].decode(errors="surrogatepass")

    def encode(self, text: str, options: Mapping[str, Any]) -> list[int]:
        """Return the token ids of a text.

        Raises:
            ValueError: the tokeniser cannot read it.
            InvalidJob: a limit was exceeded; also in `failure`.
            EngineError: the helper failed; also in `failure`.
        """
        answer = self._ask({"text": text, "options": options})
        if answer.startswith(REASON):
            raise ValueError(answer[1:].decode(errors="replace"))
        assert answer.startswith(IDS)
        ids = array("I")
        ids.frombytes(answer[1:])
        return ids.tolist()

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids; raises what `encode` raises."""
        answer = self._ask({"decode": token_ids})
        assert answer.startswith(TEXT)
        return answer[1:].decode(errors="surrogatepass")

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """Return each token as the tokeniser writes it; raises what `encode` raises."""
        answer = self._ask({"texts": token_ids})
        assert answer.startswith(TEXT)
        texts: list[str] = json.loads(answer[1:])
        return texts

    def _ask(self, asked: Mapping[str, Any]) -> bytes:
        try:
            return self._helper.ask(json.dumps(asked).encode())
        except HelperRefused as refused:
            metrics.render_refused.labels(self._settings.served_name, refused.reason).inc()
            log.warning("render_refused", reason=refused.reason)
            self.failure = InvalidJob(self._describe(refused.reason))
            raise self.failure from refused
        except EngineError as error:
            self.failure = error
            raise

    def _describe(self, reason: str) -> str:
        """Return the text that the client sees."""
        limits = self._settings
        texts = {
            "time": f"takes more than {limits.render_seconds:g} s to render",
            "memory": f"takes more than {limits.render_memory_bytes} bytes to render",
            "size": f"is longer than {limits.render_characters} characters when it is rendered",
            "crash": "could not be rendered",
        }
        return f"the prompt {texts[reason]}"


class RemoteRenderer:
    """The helpers that render; use it from the event loop's thread only."""

    def __init__(
        self,
        settings: EngineSettings,
        hello: Callable[[], bytes],
        *,
        progress: Callable[[], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        """Create a renderer whose helpers are not started.

        Args:
            settings: The limits and the number of helpers.
            hello: Returns what the program's `prepare` takes.
            progress: Called when a helper has begun or ended a request.
            command: The program of a helper process.
        """
        self._settings = settings
        limits = HelperLimits(
            settings.render_seconds,
            settings.render_memory_bytes,
            ANSWER_FACTOR * settings.render_characters + 1,
        )
        helpers = [
            HelperProcess("render helper", command, limits, hello)
            for _ in range(settings.render_helpers)
        ]
        self.pool = HelperPool(helpers, progress)
        self._of_generation: dict[str, Work[Any]] = {}

    def takes(self, generation: Generation) -> bool:
        """Return whether a request is large; one with media is not, because they keep an order."""
        body = generation.body
        logged = sum(resume.count for resume in generation.resume.values())
        room = self._settings.render_inline_characters - VALUE_CHARACTERS * logged
        room -= MESSAGE_CHARACTERS * len(body.get("messages") or ())
        if not _has_plain_arguments(body.get("chat_template_kwargs")):
            room = -1
        return (room < 0 or _exceeds(body, room)) and not any(media_fields(body))

    async def run(
        self, generation: Generation, function: Callable[[RemoteTokeniser], R]
    ) -> R | None:
        """Run a function in a helper's thread; None if the generation was abandoned meanwhile.

        Raises:
            PipelineError: what the function raised; see `RemoteTokeniser.failure`.
        """

        def run(helper: HelperProcess) -> R:
            return function(RemoteTokeniser(helper, self._settings))

        work = self.pool.submit(generation.account, run)
        self._of_generation[generation.id] = work
        try:
            return await work.future
        finally:
            del self._of_generation[generation.id]
            if work.future.cancelled():
                self.pool.drop(work)

    def abandon(self, generation_id: str) -> None:
        """Stop rendering for a generation."""
        work = self._of_generation.get(generation_id)
        if work is not None:
            self.pool.drop(work)

    async def close(self) -> None:
        """Kill all helpers; generations that wait get EngineDead."""
        await self.pool.close()


def _exceeds(value: Any, room: int) -> bool:
    """Return whether a body has more characters than `room`; it reads no more than that."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            room -= len(found)
        elif isinstance(found, Mapping):
            room -= VALUE_CHARACTERS * len(found)
            waiting += [*found, *found.values()] if room >= 0 else []
        elif isinstance(found, list | tuple):
            room -= VALUE_CHARACTERS * len(found)
            waiting += found if room >= 0 else []
        if room < 0:
            return True
    return False


def _has_plain_arguments(arguments: Any) -> bool:
    """Return whether template arguments are switches and words, with which nothing can grow."""
    if not isinstance(arguments, Mapping):
        return not arguments
    return all(value is None or isinstance(value, bool | str) for value in arguments.values())
