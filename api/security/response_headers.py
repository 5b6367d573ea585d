"""Headers of every response that keep browsers from running, framing or keeping it.

Invariant: a response that sets one of these headers itself keeps its own value.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256

Header = tuple[bytes, bytes]

HEADERS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
NAMES = frozenset(name for name, _ in HEADERS)

#: A page may load what this server has, its own inline scripts, and styles: both libraries of
#: `/docs` and `/redoc` write styles, and ReDoc searches in a worker that it makes from a blob.
PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; font-src 'self' data:;"
    " style-src 'self' 'unsafe-inline'; worker-src blob:; script-src 'self' {scripts};"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def secured(headers: Sequence[Header]) -> list[Header]:
    """Return a response's headers with those that it lacks."""
    own = NAMES.intersection([name for name, _ in headers])
    if not own:
        return [*headers, *HEADERS]
    return [*headers, *(header for header in HEADERS if header[0] not in own)]


def page_policy(page: bytes) -> str:
    """Return the content security policy of a page: its inline scripts are allowed by hash."""
    digests = (sha256(script).digest() for script in INLINE_SCRIPT.findall(page))
    allowed = " ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in digests)
    return PAGE_POLICY.format(scripts=allowed)
