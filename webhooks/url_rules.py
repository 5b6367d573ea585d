"""Which URLs webhooks may be sent to and media be fetched from, as far as the text tells.

Invariant: a URL is parsed here, once, by one parser; connection, TLS and request use these parts.
"""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from core.settings.webhooks import Network
from webhooks.address_rules import may_reach, read_address
from webhooks.errors import InvalidWebhook

MAX_LENGTH = 2_048
PRINTABLE = re.compile(r"[\x21-\x7e]+")
NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
URL_EXPECTED = "expected an http or https URL"
DEFAULT_PORTS = {"http": 80, "https": 443}


class UrlRules(Protocol):
    """What settings say about URLs: of webhooks, or of media."""

    @property
    def require_https(self) -> bool:
        """Whether `http` is refused."""

    @property
    def open_ports(self) -> frozenset[int]:
        """The ports that may be reached; an empty set means any port."""

    @property
    def networks(self) -> Iterable[Network]:
        """The private networks that may be reached."""


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """The parts of a URL; `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The value of the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def check_url(text: str, rules: UrlRules, param: str = "url") -> WebhookTarget:
    """Return the parts of a URL that may be reached, as far as can be told without DNS.

    Args:
        text: the URL.
        rules: they say which schemes, ports and private networks are allowed.
        param: the field that the error names.

    Raises:
        InvalidWebhook: the URL is not allowed; the text says what was expected.
    """

    def refuse(reason: str) -> InvalidWebhook:
        return InvalidWebhook(f"{param}: {reason}", param=param)

    parts = _split(text)
    if isinstance(parts, str):
        raise refuse(parts)
    if rules.require_https and parts.scheme != "https":
        raise refuse("expected an https URL")
    port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    if rules.open_ports and port not in rules.open_ports:
        known = ", ".join(map(str, sorted(rules.open_ports)))
        raise refuse(f"port {port} is not allowed; allowed: {known}")
    host = parts.hostname or ""
    address = read_address(host)
    if address is None:
        problem = _name_problem(host)
        if problem:
            raise refuse(problem)
    elif not may_reach(address, rules.networks):
        raise refuse("expected an address on the public internet")
    path = parts.path or "/"
    return WebhookTarget(parts.scheme, host, port, f"{path}?{parts.query}" if parts.query else path)


def _split(text: str) -> SplitResult | str:
    """Return the parts of a URL, or a text that says what is wrong with it."""
    if len(text) > MAX_LENGTH:
        return f"expected a URL of at most {MAX_LENGTH} characters"
    if PRINTABLE.fullmatch(text) is None or "\\" in text:
        return "expected a URL of printable ASCII characters without a backslash"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return URL_EXPECTED
    return _parts_problem(text, parts, port) or parts


def _parts_problem(text: str, parts: SplitResult, port: int | None) -> str:
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or port == 0:
        return URL_EXPECTED
    if "@" in parts.netloc:
        return "expected a URL without a user name and password"
    return "expected a URL without a fragment" if "#" in text else ""


def _name_problem(host: str) -> str:
    """Return what is wrong with a host that is not an address in its usual notation."""
    if NAME.fullmatch(host) is None or len(host) > 253:
        return "expected a host name"
    try:
        socket.inet_aton(host)
    except OSError:
        last = host.rstrip(".").rpartition(".")[2].lower()
        return "expected a host name on the public internet" if last == "localhost" else ""
    # A resolver reads 2130706433, 0x7f.1 and 017700000001 as 127.0.0.1.
    return "expected an address written as four decimal numbers"
