"""Lets a renderer's tokeniser work in a helper process while a helper's thread renders.

Invariant: outside of `apart` a tokeniser does exactly what it did before.
"""

import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from transformers import TokenizersBackend

from workers.engines.helpers.remote_renderer import RemoteTokeniser

log = structlog.get_logger()

#: The only options of `tokenizer(text, ...)` that a helper knows.
OPTIONS = frozenset({"truncation", "max_length", "add_special_tokens"})

_local = threading.local()


@contextmanager
def apart(remote: RemoteTokeniser | None) -> Iterator[None]:
    """Let the calling thread's uses of tokenisers go to a helper; None: to no helper."""
    _local.remote = remote
    try:
        yield
    finally:
        _local.remote = None


def pack(tokeniser: Any, template: str | None, characters: int) -> bytes | None:
    """Return what a render helper needs to do the work of a tokeniser.

    Args:
        tokeniser: The tokeniser; it is packed without vLLM's classes, which are slow to load.
        template: The server's chat template; None: the tokeniser's own.
        characters: Maximum length of a rendered prompt.

    Returns:
        What the helper's program unpacks; None if it cannot load the tokeniser.
    """
    while type(tokeniser).__module__.startswith(("vllm.", __name__)):
        _, arguments = tokeniser.__reduce__()[:2]
        tokeniser = arguments[0]
    known = isinstance(tokeniser, TokenizersBackend)
    if not known or not type(tokeniser).__module__.startswith("transformers."):
        log.warning("rendering_apart_unavailable", tokeniser=type(tokeniser).__qualname__)
        return None
    if template is None and isinstance(tokeniser.chat_template, str):
        template = tokeniser.chat_template
    return pickle.dumps((tokeniser, template, characters))


def can_work_apart(tokeniser: Any) -> None:
    """Change a tokeniser so that `apart` works for it."""
    kind = type(tokeniser)

    class TokeniserApart(kind):  # type: ignore[misc, valid-type]
        def apply_chat_template(self, *args: Any, **options: Any) -> Any:
            remote = getattr(_local, "remote", None)
            if remote is None or args or options.get("tokenize"):
                return super().apply_chat_template(*args, **options)
            return remote.apply_chat_template(options)

        def __call__(self, text: Any = None, **options: Any) -> Any:
            remote = getattr(_local, "remote", None)
            if remote is None or not isinstance(text, str) or not options.keys() <= OPTIONS:
                return super().__call__(text, **options)
            if len(text) <= remote.inline_characters:
                return super().__call__(text, **options)
            return {"input_ids": remote.encode(text, options)}

    tokeniser.__class__ = TokeniserApart
