"""A URL is parsed once, and refused if two parsers could read it differently."""

from typing import Any

import pytest
from pydantic import ValidationError

from core.settings.webhooks import WebhookSettings
from webhooks.errors import InvalidWebhook
from webhooks.url_rules import WebhookTarget, check_url

DEFAULT = WebhookSettings()
LOOSE = WebhookSettings(require_https=False, ports="")


def test_the_parts_of_a_url() -> None:
    assert check_url("https://Hooks.Example.com/in?a=b&c", DEFAULT) == WebhookTarget(
        "https", "hooks.example.com", 443, "/in?a=b&c"
    )
    assert check_url("https://example.com", DEFAULT).target == "/"
    assert check_url("http://[2606:4700::1]:8080/", LOOSE).authority == "[2606:4700::1]:8080"
    assert check_url("https://example.com:8443/", DEFAULT).authority == "example.com:8443"
    assert check_url("https://example.com:443/", DEFAULT).authority == "example.com"


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.com", "//example.com", "ftp://example.com", "file:///etc/passwd"),
        *(
            "https://",
            "https:///path",
            "https://:443/",
            "https://[",
            "https://[::1",
            "https://a:b/",
        ),
        *("https://example.com:99999/", "https://example.com:0/", "https://example.com:-1/"),
        *("https://user@example.com/", "https://user:secret@example.com/", "https://@example.com/"),
        *("https://example.com@10.0.0.1/", "https://10.0.0.1\\@example.com/"),
        *("https://example.com\\.evil.com/", "https://exa mple.com/", "https://example.com/\n"),
        *(
            "https://example.com/#10.0.0.1",
            "https://example.com#@10.0.0.1/",
            "https://ex%61mple.com",
            "https://8.8.8.8%25x.example.com/",
        ),
        *(
            "https://bücher.example/",
            "https://example。com/",
            "https://①②⑦.⓪.⓪.①/",
            "\thttps://a.b/",
        ),
        *("https://-example.com/", "https://exam..ple.com/", "https://" + "a" * 64 + ".com/"),
        "https://" + "a." * 127 + "com/",
        "https://example.com/" + "a" * 2_048,
    ],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidWebhook, match=r"^url: ") as refused:
        check_url(url, LOOSE)
    assert refused.value.param == "url"
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1"),
        *("017700000001", "0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
        *("[0:0:0:0:0:ffff:7f00:1]", "[64:ff9b::7f00:1]", "[fe80::1%25eth0]", "[fd00:ec2::254]"),
        *("10.0.0.1", "192.168.0.1", "169.254.169.254", "100.100.100.200", "168.63.129.16"),
        *("localhost", "LOCALHOST", "localhost.", "a.localhost", "0.0.0.0", "255.255.255.255"),
    ],
)
def test_an_address_inside_is_refused_however_it_is_written(host: str) -> None:
    with pytest.raises(InvalidWebhook):
        check_url(f"http://{host}/", LOOSE)


def test_settings_decide_about_https_and_ports() -> None:
    with pytest.raises(InvalidWebhook, match="an https URL"):
        check_url("http://example.com/", DEFAULT)
    with pytest.raises(InvalidWebhook, match="port 22 is not allowed; allowed: 80, 443"):
        check_url("https://example.com:22/", DEFAULT)
    assert check_url("https://example.com:22/", LOOSE).port == 22


def test_a_network_that_is_allowed_is_reached_by_its_plain_address() -> None:
    own = WebhookSettings(require_https=False, ports="", allow_networks="127.0.0.0/8,::1/128")
    assert check_url("http://127.0.0.1:9000/", own).host == "127.0.0.1"
    assert check_url("http://[::1]:9000/", own).host == "::1"
    for host in ("2130706433", "[::ffff:127.0.0.1]", "10.0.0.1"):
        with pytest.raises(InvalidWebhook):
            check_url(f"http://{host}/", own)


@pytest.mark.parametrize(
    "wrong",
    [
        {"allow_networks": "10.0.0.1/8"},
        {"allow_networks": "everything"},
        {"ports": "80;443"},
        {"retry_seconds": ""},
        {"connect_seconds": 20.0},
        {"total_seconds": 0},
        {"concurrency": 8},
        {"concurrency_per_host": 33},
        {"retention_days": 3},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WebhookSettings(**wrong)
