"""The client accepts deliveries that the pipeline signed, and no others."""

from datetime import UTC, datetime, timedelta

import pytest

from penstock import InvalidSignatureError, verify_webhook
from webhooks.signing import new_secret, sign

BODY = '{"type": "job.completed", "data": {"id": "job_1", "metadata": {"who": "Zoë"}}}'
SECRET, OTHER = new_secret(), new_secret()


def headers(*secrets: str, ago: float = 0, body: str = BODY) -> dict[str, str]:
    return sign("evt_1", datetime.now(UTC) - timedelta(seconds=ago), body, secrets)


def test_a_delivery_that_was_signed_is_returned() -> None:
    assert verify_webhook(BODY.encode(), headers(SECRET), SECRET)["data"]["id"] == "job_1"
    assert verify_webhook(BODY, headers(SECRET), SECRET)["type"] == "job.completed"
    upper = {name.title(): value for name, value in headers(SECRET).items()}
    assert verify_webhook(BODY, upper, SECRET)


def test_during_a_rotation_either_secret_is_good() -> None:
    both = headers(OTHER, SECRET)
    assert verify_webhook(BODY, both, SECRET) == verify_webhook(BODY, both, OTHER)


@pytest.mark.parametrize("place", range(len(BODY)))
def test_one_changed_byte_is_noticed(place: int) -> None:
    changed = bytearray(BODY.encode())
    changed[place] ^= 1
    with pytest.raises(InvalidSignatureError):
        verify_webhook(bytes(changed), headers(SECRET), SECRET)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_header_is_needed_and_signed(name: str) -> None:
    sent = headers(SECRET)
    with pytest.raises(InvalidSignatureError, match=name):
        verify_webhook(BODY, {key: value for key, value in sent.items() if key != name}, SECRET)
    shown = {"webhook-id": "evt_2", "webhook-timestamp": str(int(sent["webhook-timestamp"]) + 1)}
    with pytest.raises(InvalidSignatureError):
        verify_webhook(BODY, sent | {name: shown.get(name, "v1,AAAA v2,x é")}, SECRET)


@pytest.mark.parametrize("ago", [3600, -3600])
def test_an_old_delivery_is_refused_however_it_is_signed(ago: float) -> None:
    sent = headers(SECRET, ago=ago)
    with pytest.raises(InvalidSignatureError, match="clocks"):
        verify_webhook(BODY, sent, SECRET)
    assert verify_webhook(BODY, sent, SECRET, tolerance_seconds=2 * 3600)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%", "pk_key!"])
def test_a_secret_that_is_none_is_named(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        verify_webhook(BODY, headers(SECRET), secret)
