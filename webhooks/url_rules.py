"""The URLs that webhooks may go to, as far as the text of one can tell.

Invariant: a URL is taken apart here, once, by one parser; what is connected to, named in TLS and
asked for are these parts and nothing else.
"""

import re
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from core.settings.webhooks import WebhookSettings
from webhooks.address_rules import may_reach, read_address
from webhooks.errors import InvalidWebhook

LONGEST = 2_048
PRINTABLE = re.compile(r"[\x21-\x7e]+")
NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
URL_EXPECTED = "an http or https URL is expected"
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """The parts of a URL; `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the `Host` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def check_url(text: str, settings: WebhookSettings, param: str = "url") -> WebhookTarget:
    """Return the parts of a URL that may be sent to, as far as can be told without asking DNS.

    Raises:
        InvalidWebhook: saying what was expected; `param` names the field.
    """

    def refuse(reason: str) -> InvalidWebhook:
        return InvalidWebhook(f"{param}: {reason}", param=param)

    parts = _split(text)
    if isinstance(parts, str):
        raise refuse(parts)
    if settings.require_https and parts.scheme != "https":
        raise refuse("an https URL is expected")
    port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    if settings.open_ports and port not in settings.open_ports:
        known = ", ".join(map(str, sorted(settings.open_ports)))
        raise refuse(f"port {port} is not open to webhooks; there are: {known}")
    host = parts.hostname or ""
    address = read_address(host)
    if address is None:
        wrong = _wrong_name(host)
        if wrong:
            raise refuse(wrong)
    elif not may_reach(address, settings.networks):
        raise refuse("an address on the public internet is expected")
    path = parts.path or "/"
    return WebhookTarget(parts.scheme, host, port, f"{path}?{parts.query}" if parts.query else path)


def _split(text: str) -> SplitResult | str:
    """Take a URL apart; returns what is wrong with it as a text."""
    if len(text) > LONGEST:
        return f"a URL of at most {LONGEST} characters is expected"
    if PRINTABLE.fullmatch(text) is None or "\\" in text:
        return "a URL of printable ASCII characters without a backslash is expected"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return URL_EXPECTED
    return _wrong_parts(text, parts, port) or parts


def _wrong_parts(text: str, parts: SplitResult, port: int | None) -> str:
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or port == 0:
        return URL_EXPECTED
    if "@" in parts.netloc:
        return "a URL without a user name and password is expected"
    return "a URL without a fragment is expected" if "#" in text else ""


def _wrong_name(host: str) -> str:
    """Say what is wrong with a host that is no address as addresses are written."""
    if NAME.fullmatch(host) is None or len(host) > 253:
        return "a host name is expected"
    try:
        socket.inet_aton(host)
    except OSError:
        last = host.rstrip(".").rpartition(".")[2].lower()
        return "a host name on the public internet is expected" if last == "localhost" else ""
    # 2130706433, 0x7f.1 and 017700000001 are 127.0.0.1 to a resolver.
    return "an address is expected to be written as four decimal numbers"
