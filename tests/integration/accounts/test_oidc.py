"""Tokens of an identity provider: checked for issuer, audience and current keys."""

import asyncio
import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from accounts import oidc
from accounts.errors import IssuerUnavailable, SessionOver
from accounts.oidc import Issuer
from core.settings.auth import OidcSettings
from tests.support.machine import is_over

ISSUER, AUDIENCE = "https://id.example.com", "penstock"


class Provider:
    """An identity provider: a server with keys, and tokens signed with them."""

    def __init__(self) -> None:
        self.keys = {"one": rsa.generate_private_key(public_exponent=65537, key_size=2048)}
        self.answer: bytes | None = None
        self.asked = 0
        self.open = threading.Event()
        self.open.set()
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                provider.open.wait(20)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(provider.answer or provider.published())

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/keys"

    def published(self) -> bytes:
        found = []
        for name, key in self.keys.items():
            described = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            found.append({**described, "kid": name, "use": "sig", "alg": "RS256"})
        return orjson.dumps({"keys": found})

    def token(self, *, by: str = "one", key: Any = None, **changes: Any) -> str:
        content = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "exp": int(time.time()) + 600,
            "email": "Ann@Example.com",
            "email_verified": True,
            **changes,
        }
        content = {name: value for name, value in content.items() if value is not None}
        return jwt.encode(content, key or self.keys[by], "RS256", headers={"kid": by})

    def stop(self) -> None:
        self.open.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(5)


@pytest.fixture
def provider() -> Iterator[Provider]:
    running = Provider()
    yield running
    running.stop()


@pytest.fixture
def issuer(provider: Provider) -> Issuer:
    return Issuer(
        OidcSettings(issuer=ISSUER, audience=AUDIENCE, jwks_url=provider.url, timeout_seconds=2)
    )


async def test_a_token_names_its_person_and_the_keys_are_asked_for_once(
    provider: Provider, issuer: Issuer
) -> None:
    token = provider.token()
    assert issuer.issued(token)
    emails = await asyncio.gather(*(issuer.email_of(token) for _ in range(20)))
    assert set(emails) == {"ann@example.com"}
    assert provider.asked == 1


async def test_what_is_not_its_own_is_refused(provider: Provider, issuer: Issuer) -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    good = provider.token()
    public = provider.keys["one"].public_key()
    bad = {
        "another key under its name": provider.token(key=stranger),
        "for another audience": provider.token(aud="else"),
        "of another issuer": provider.token(iss="https://evil.example.com"),
        "expired": provider.token(exp=int(time.time()) - 1),
        "without an end": provider.token(exp=None),
        "without an email": provider.token(email=None),
        "not verified": provider.token(email_verified=False),
        "not said to be verified": provider.token(email_verified=None),
        "verified in other words": provider.token(email_verified="no"),
        "another field of the copy": provider.token(email="whole"),
        "a user's id": provider.token(email=f"user_{'0' * 32}"),
        "no text": provider.token(email=["ann@example.com"]),
        "changed": good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"),
        "unsigned": jwt.encode({"iss": ISSUER}, None, "none", headers={"kid": "one"}),
        "signed with what is public": jwt.encode(
            {"iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 60, "email": "a@b.c"},
            str(public.public_numbers().n),
            "HS256",
            headers={"kid": "one"},
        ),
    }
    for why, token in bad.items():
        with pytest.raises(SessionOver):
            raise AssertionError(why + await issuer.email_of(token))
    assert not issuer.issued(bad["of another issuer"])
    assert not issuer.issued("no.token.atall")


async def test_a_new_key_is_found_and_unknown_ones_do_not_make_it_asked_without_end(
    provider: Provider, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await issuer.email_of(provider.token())
    for number in range(50):
        with pytest.raises(SessionOver):
            await issuer.email_of(provider.token(by=f"unknown-{number}", key=provider.keys["one"]))
    assert provider.asked <= 2
    monkeypatch.setattr(oidc, "AGAIN_SECONDS", 0)
    provider.keys = {"two": rsa.generate_private_key(public_exponent=65537, key_size=2048)}
    assert await issuer.email_of(provider.token(by="two")) == "ann@example.com"


async def test_while_it_is_away_known_keys_go_on_and_unknown_tokens_come_back_later(
    provider: Provider, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.answer = b"<html>busy</html>"
    with pytest.raises(IssuerUnavailable) as refused:
        await issuer.email_of(provider.token())
    assert refused.value.retry_after_seconds > 0
    monkeypatch.setattr(oidc, "AGAIN_SECONDS", 0)
    provider.answer = None
    await issuer.email_of(provider.token())
    provider.answer = b"{}"
    monkeypatch.setattr(oidc, "FRESH_SECONDS", 0)
    assert await issuer.email_of(provider.token()) == "ann@example.com"


async def test_an_installation_may_trust_a_provider_that_does_not_say_verified(
    provider: Provider,
) -> None:
    settings = OidcSettings(
        issuer=ISSUER, audience=AUDIENCE, jwks_url=provider.url, require_verified=False
    )
    token = provider.token(email_verified=None)
    assert await Issuer(settings).email_of(token) == "ann@example.com"


async def test_while_it_is_silent_nobody_with_a_known_key_waits_and_others_wait_once(
    provider: Provider, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = provider.token()
    await issuer.email_of(good)
    monkeypatch.setattr(oidc, "AGAIN_SECONDS", 0)
    monkeypatch.setattr(oidc, "FRESH_SECONDS", 0)
    provider.open.clear()
    async with asyncio.timeout(1):
        emails = await asyncio.gather(*(issuer.email_of(good) for _ in range(20)))
    assert set(emails) == {"ann@example.com"}
    unknown = provider.token(by="unknown", key=provider.keys["one"])
    began = time.monotonic()
    answers = await asyncio.gather(
        *(issuer.email_of(unknown) for _ in range(20)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {SessionOver}
    assert not is_over(began, 4), "all of them share one wait of two seconds"
