"""The published retry schedule, with jitter, and the longest Retry-After that is accepted."""

from datetime import UTC, datetime, timedelta

import pytest

from core.settings.webhooks import WebhookSettings
from webhooks.retry_schedule import pause_seconds, retry_after
from webhooks.signing import new_secret, sign, valid_keys

PAUSES = WebhookSettings().pauses
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_ten_attempts_in_a_little_more_than_three_days() -> None:
    assert len(PAUSES) == 9
    assert sum(PAUSES) > timedelta(days=WebhookSettings().disable_after_days).total_seconds()
    for attempts, pause in enumerate(PAUSES, 1):
        found = {pause_seconds(PAUSES, attempts) for _ in range(50)}
        assert all(one is not None and pause <= one <= pause * 1.1 for one in found)
        assert len(found) > 1
    assert pause_seconds(PAUSES, 10) is None
    assert pause_seconds(PAUSES, 10, 60.0) is None


def test_a_receiver_gets_more_time_and_never_less() -> None:
    assert pause_seconds(PAUSES, 1, 3_600.0) == 3_600
    longer = pause_seconds(PAUSES, 9, 1.0)
    assert longer is not None
    assert longer >= PAUSES[-1]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *((None, None), ("", None), ("soon", None), ("-5", None), ("1.5", None), ("٣", None)),
        *(("0", 0.0), ("120", 120.0), ("9" * 400, 86_400.0)),
        ("Sun, 22 Nov 2026 12:02:00 GMT", 120.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2026 12:02:00", 120.0),
        ("Tue, 22 Nov 2089 12:00:00 GMT", 86_400.0),
        ("Sun, 99 Nov 2026 12:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_within_bounds(text: str | None, seconds: float | None) -> None:
    assert retry_after(text, NOON) == seconds


def test_two_secrets_sign_until_the_first_runs_out() -> None:
    new, old = new_secret(), new_secret()
    assert valid_keys(new, old, NOON, NOON - timedelta(seconds=1)) == [new, old]
    assert valid_keys(new, old, NOON, NOON) == [new]
    assert valid_keys(new, None, None, NOON) == [new]
    headers = sign("evt_1", NOON, "{}", [new, old])
    assert headers["webhook-timestamp"] == str(int(NOON.timestamp()))
    assert [one[:3] for one in headers["webhook-signature"].split(" ")] == ["v1,", "v1,"]
