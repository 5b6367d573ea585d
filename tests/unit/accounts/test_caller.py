"""A caller's record: encoding, expiry, limits and the digest of a secret."""

import time

import pytest

from accounts.caller import Caller, Limits, digest_of
from core.errors import AccountSuspended, Unauthenticated


def test_a_record_is_read_back_as_it_was_written_and_newer_fields_are_no_error() -> None:
    record = Caller(
        id="key_1", account="acme", models=frozenset({"a", "b"}), limits=Limits(max_queued=3)
    )
    text = record.model_dump_json()
    assert Caller.model_validate_json(text) == record
    assert Caller.model_validate_json(text[:-1] + ',"later":1}') == record


def test_an_expired_key_and_a_suspended_account_are_refused() -> None:
    instant = time.time()
    Caller(id="k", account="acme", expires=instant + 60).check()
    with pytest.raises(Unauthenticated, match="expired"):
        Caller(id="k", account="acme", expires=instant - 1).check()
    with pytest.raises(AccountSuspended, match="acme"):
        Caller(id="k", account="acme", suspended=True).check()


def test_every_kind_of_scope_and_an_end_limit_a_record() -> None:
    assert not Caller(id="k", account="acme").limited
    assert Caller(id="k", account="acme", models=frozenset()).limited
    assert Caller(id="k", account="acme", routes=frozenset({"jobs"})).limited
    assert Caller(id="k", account="acme", networks=()).limited
    assert Caller(id="k", account="acme", expires=1.0).limited


def test_a_digest_is_the_sha256_of_the_secret() -> None:
    assert digest_of("pk_") == "6ee30b208f92fe1c0e6678942defd30df54dbfad53f57590e0a03c01447fa7b8"
