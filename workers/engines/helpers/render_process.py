"""The program that renders and tokenises: `python -m workers.engines.helpers.render_process`.

Invariant: it does what the engine's own tokeniser would do with the same arguments, because it has
a copy of that tokeniser.
"""

import json
import pickle
from array import array
from contextlib import suppress
from typing import Any

from workers.engines.helpers.helper_program import Exceeded, Work, serve

#: The first byte of a result: a text (or JSON), token ids, or why there is none.
TEXT, IDS, REASON = b"T", b"I", b"E"


def prepare(hello: bytes) -> Work:
    """Load the tokeniser and compile its chat template, so that no fork has to.

    Args:
        hello: A pickled tuple: the tokeniser, the chat template or None, and the maximum number
            of characters of a rendered prompt. It comes from our own worker.
    """
    tokeniser, template, characters = pickle.loads(hello)  # noqa: S301  # our own worker's
    tokeniser("a")
    if template is not None:
        with suppress(Exception):  # a template may refuse this chat; it is compiled in any case
            chat = [{"role": "user", "content": "a"}]
            tokeniser.apply_chat_template(chat, chat_template=template, tokenize=False)

    def work(request: bytes) -> bytes:
        asked = json.loads(request)
        if "text" in asked:
            return _encode(tokeniser, asked["text"], asked["options"])
        if "decode" in asked:
            return _decode(tokeniser, asked["decode"])
        if "texts" in asked:
            return TEXT + json.dumps(tokeniser.convert_ids_to_tokens(asked["texts"])).encode()
        return _render(tokeniser, asked["options"], characters)

    return work


def _encode(tokeniser: Any, text: str, options: dict[str, Any]) -> bytes:
    try:
        ids: list[int] = tokeniser(text, **options)["input_ids"]
    except (TypeError, ValueError) as error:  # such as a text that is no Unicode
        return REASON + str(error).encode(errors="replace")
    return IDS + array("I", ids).tobytes()


def _decode(tokeniser: Any, token_ids: list[int]) -> bytes:
    text: str = tokeniser.decode(token_ids)
    return TEXT + text.encode(errors="surrogatepass")


def _render(tokeniser: Any, options: dict[str, Any], characters: int) -> bytes:
    try:
        text: str = tokeniser.apply_chat_template(**options)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # a template raises many types for a bad chat
        return REASON + _reason(error).encode(errors="replace")
    if len(text) > characters:
        raise Exceeded(b"size")
    return TEXT + text.encode(errors="surrogatepass")


def _reason(error: BaseException) -> str:
    """Return what the template says, which other errors may wrap."""
    import jinja2  # noqa: PLC0415  # the stack is limited first

    found: BaseException | None = error
    while found is not None:
        if isinstance(found, jinja2.TemplateError):
            return str(found)
        found = found.__cause__ or found.__context__
    return str(error)


if __name__ == "__main__":
    serve(prepare)
