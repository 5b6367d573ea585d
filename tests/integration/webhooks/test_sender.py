"""One attempt connects only to the address that was checked, in bounded time."""

import datetime as dt
import ipaddress
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from core.settings.webhooks import WebhookSettings
from tests.support.machine import is_over
from tests.support.receiver import Receiver, receiving
from webhooks.dns_resolver import Resolver
from webhooks.errors import Undeliverable
from webhooks.pinned_backend import PinnedBackend
from webhooks.sender import Sender, SendOutcome

LOOPBACK = "127.0.0.0/8"


class Names:
    """A resolver that gives each name its answers in turn, the last for ever."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise OSError(host)
        given = self.answers[host]
        return given.pop(0) if len(given) > 1 else given[0]


def settings(**values: Any) -> WebhookSettings:
    """Return settings that let the loopback be reached over http, unless said otherwise."""
    return WebhookSettings(
        **{"allow_networks": LOOPBACK, "require_https": False, "ports": "", **values}
    )


async def send(
    url: str, names: Names | None = None, own: WebhookSettings | None = None
) -> SendOutcome:
    """Send once."""
    sender = Sender(own or settings(), names or Names())
    try:
        return await sender.send(url, b'{"a":1}', {"webhook-id": "evt_1"})
    finally:
        await sender.close()


async def test_a_delivery_goes_to_the_address_and_keeps_the_name() -> None:
    async with receiving(200) as receiver:
        url = f"http://hooks.test:{receiver.port}/in?a=b"
        outcome = await send(url, Names(hooks_test=[["127.0.0.1"]]))
    assert outcome.accepted
    assert outcome.status == 200
    (got,) = receiver.got
    assert got.headers["host"] == f"hooks.test:{receiver.port}"
    assert got.path == "/in?a=b"
    assert got.body == b'{"a":1}'
    assert got.headers["content-type"] == "application/json"


async def test_a_name_that_changes_its_answer_is_asked_again_and_refused() -> None:
    names = Names(hooks_test=[["127.0.0.1"], ["10.0.0.1"]])
    async with receiving(200) as receiver:
        sender = Sender(settings(), names)
        url = f"http://hooks.test:{receiver.port}/"
        first = await sender.send(url, b"{}", {})
        second = await sender.send(url, b"{}", {})
        await sender.close()
    assert first.accepted
    assert second.failure == Undeliverable.shown
    assert names.asked == ["hooks.test", "hooks.test"]
    assert receiver.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        *(["127.0.0.1"], ["10.1.2.3"], ["169.254.169.254"], ["100.100.100.200"], ["::1"]),
        *(["fe80::1%eth0"], ["fd00:ec2::254"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"]),
        *(["2002:7f00:1::"], ["0.0.0.0"], ["224.0.0.1"], ["168.63.129.16"], ["not an address"]),
        ["93.184.216.34", "127.0.0.1"],  # one that is public does not make up for one that is not
    ],
)
async def test_a_name_that_leads_inside_is_never_connected_to(answer: list[str]) -> None:
    async with receiving(200) as receiver:
        url = f"http://hooks.test:{receiver.port}/"
        outcome = await send(url, Names(hooks_test=[answer]), settings(allow_networks=""))
    assert outcome.failure == Undeliverable.shown
    assert outcome.status is None
    assert receiver.connections == 0


async def test_a_client_cannot_tell_which_names_exist_inside() -> None:
    unknown = await send("http://unknown.test/")
    empty = await send("http://hooks.test/", Names(hooks_test=[[]]))
    inside = await send("http://db.internal/", Names(db_internal=[["10.1.2.3"]]))
    metadata = await send("http://hooks.test/", Names(hooks_test=[["169.254.169.254"]]))
    # The time would tell, too.
    assert unknown == empty == inside == metadata == SendOutcome(None, Undeliverable.shown, 0)


async def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    async with receiving(200) as receiver:
        url = f"http://hooks.test:{receiver.port}/"
        outcome = await send(url, Names(hooks_test=[["127.0.0.2", "127.0.0.1"]]))
    assert outcome.accepted


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_not_followed(status: int) -> None:
    async with receiving(200) as inside, receiving(status) as receiver:
        receiver.headers["location"] = inside.url
        outcome = await send(receiver.url)
    assert outcome.failure == f"answered {status}: redirects are not followed"
    assert inside.connections == 0


@pytest.mark.parametrize("status", [400, 404, 410, 500, 503])
async def test_any_other_answer_is_a_failure(status: int) -> None:
    async with receiving(status) as receiver:
        outcome = await send(receiver.url)
    assert (outcome.status, outcome.failure) == (status, f"answered {status}")


async def test_retry_after_counts_with_429_and_503_only() -> None:
    for status, asked in ((429, 7.0), (503, 7.0), (500, None)):
        async with receiving(status) as receiver:
            receiver.headers["retry-after"] = "7"
            assert (await send(receiver.url)).retry_after == asked


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving(200) as proxy, receiving(200) as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await send(receiver.url)).accepted
    assert proxy.connections == 0


def misbehave(receiver: Receiver, how: str) -> None:
    """Have a receiver behave badly."""
    if how == "silent":
        receiver.silent = True
    elif how == "rude":
        receiver.rude = True
    elif how == "endless head":
        receiver.raw, receiver.drip = b"HTTP/1.1 200 x\r\n", b"x-more: " + b"y" * 50_000 + b"\r\n"
    elif how == "no http":
        receiver.raw = b"220 mail.example.com ESMTP\r\n"
    elif how == "only continues":
        receiver.raw, receiver.drip = b"", b"HTTP/1.1 100 x\r\n\r\n"


@pytest.mark.parametrize(
    ("how", "failure"),
    [
        ("silent", "no response within 0.5 s"),
        ("only continues", "no response within 0.5 s"),
        ("rude", "invalid HTTP response (RemoteProtocolError)"),
        ("endless head", "invalid HTTP response (RemoteProtocolError)"),
        ("no http", "invalid HTTP response (RemoteProtocolError)"),
    ],
)
async def test_a_receiver_that_misbehaves_is_given_up_in_bounded_time(
    how: str, failure: str
) -> None:
    began = time.monotonic()
    async with receiving(200) as receiver:
        misbehave(receiver, how)
        outcome = await send(receiver.url, own=settings(total_seconds=0.5, connect_seconds=0.5))
    assert outcome.failure == failure
    assert not is_over(began, 5)


async def test_a_huge_answer_is_not_read() -> None:
    async with receiving(200) as receiver:
        receiver.drip = b"x" * 1_000_000
        outcome = await send(receiver.url)
    assert outcome.accepted
    assert outcome.milliseconds < 5_000


async def test_nobody_at_home_is_said_without_an_address() -> None:
    async with receiving(200) as receiver:
        pass
    assert (await send(receiver.url)).failure == "connection failed"


async def test_a_url_that_the_settings_no_longer_allow_is_not_sent_to() -> None:
    async with receiving(200) as receiver:
        outcome = await send(receiver.url, own=settings(require_https=True))
    assert outcome.failure == "url: expected an https URL"
    assert receiver.connections == 0


def certificate(directory: Path, name: str, *, days: int = 1) -> Path:
    """Write a self-signed certificate with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    if name[0].isdigit():
        names = [x509.IPAddress(ipaddress.ip_address(name))]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=30))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = directory / f"{name}.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def serving(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.mark.parametrize(
    ("name", "days", "trusted", "failure"),
    [
        ("hooks.test", 1, True, ""),
        ("hooks.test", 1, False, "TLS: self-signed certificate"),
        ("hooks.test", -1, True, "TLS: certificate has expired"),
        ("other.test", 1, True, "TLS: Hostname mismatch, certificate is not valid for"),
        ("127.0.0.1", 1, True, "TLS: Hostname mismatch, certificate is not valid for"),
    ],
)
async def test_tls_is_checked_against_the_name_and_not_the_address(
    tmp_path: Path, name: str, days: int, trusted: bool, failure: str
) -> None:
    path = certificate(tmp_path, name, days=days)
    own = settings(ca_file=path if trusted else None, require_https=True)
    async with receiving(200, tls=serving(path)) as receiver:
        url = f"https://hooks.test:{receiver.port}/"
        outcome = await send(url, Names(hooks_test=[["127.0.0.1"]]), own)
    assert outcome.failure.startswith(failure), outcome
    assert outcome.accepted is not bool(failure)
    assert len(receiver.got) == (0 if failure else 1)


async def test_https_to_a_port_that_speaks_http_fails() -> None:
    async with receiving(200) as receiver:
        own = settings(total_seconds=1.0, connect_seconds=0.5)
        outcome = await send(receiver.url.replace("http:", "https:"), own=own)
    assert outcome.failure == "connection timed out"  # it waits for the rest of what it read


async def test_the_systems_resolver_reads_numbers_as_addresses() -> None:
    resolver = Resolver(2)
    assert await resolver("2130706433", 80) == ["127.0.0.1"]
    assert await resolver("0x7f.1", 80) == ["127.0.0.1"]
    resolver.close()


async def test_numbers_that_are_addresses_are_refused_before_anybody_is_asked() -> None:
    names = Names()
    for host in ("2130706433", "0x7f.1", "017700000001", "127.1", "[::ffff:127.0.0.1]", "[::1]"):
        outcome = await send(f"http://{host}/", names, settings(allow_networks=""))
        assert outcome.failure.startswith("url: expected an address"), host
    assert not names.asked


async def test_a_name_that_begins_like_an_address_is_never_asked_of_another_resolver() -> None:
    names = Names(**{"8.8.8.8%x.test": [["127.0.0.1"]]})
    backend = PinnedBackend(names, ())
    with pytest.raises(Undeliverable, match="not public"):
        await backend.connect_tcp("8.8.8.8%x.test", 80, timeout=1)
    assert names.asked == ["8.8.8.8%x.test"]
