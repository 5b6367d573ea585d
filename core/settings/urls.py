"""Checks of the URLs in settings, so that a wrong one is refused at the start.

Invariant: no message has a part of the URL in it, because URLs hold passwords.
"""

from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import AfterValidator, SecretStr

REDIS = "expected redis://[:PASSWORD@]HOST:PORT/NUMBER, or rediss:// for TLS"
DATABASE = "expected sqlite+aiosqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
FILES = "expected file:FOLDER, file:///FOLDER or s3://BUCKET/PREFIX"
WEB = "expected a URL that begins with https:// or http://"
#: What may follow the `?` of a bucket.
FILES_OPTIONS = ("endpoint", "region", "key", "secret", "token")
ESCAPED = "; write special characters of a password as %XX"


def check_redis_url(text: str) -> None:
    """Check the address of a Redis.

    Raises:
        ValueError: says what is expected.
    """
    parts = _split(text, REDIS)
    if parts.scheme not in ("redis", "rediss") or "//" not in text:
        raise ValueError(REDIS)
    if parts.path.strip("/") and not parts.path[1:].isdecimal():
        raise ValueError(f"{REDIS}; the last part is the number of a database")


def check_database_url(text: str) -> None:
    """Check the address of a database.

    Raises:
        ValueError: says what is expected.
    """
    parts = _split(text, DATABASE)
    if parts.scheme == "sqlite+aiosqlite":
        if parts.netloc or not parts.path.strip("/"):
            raise ValueError(f"{DATABASE}; a file has three slashes before it")
    elif parts.scheme != "postgresql+psycopg" or "://" not in text:
        raise ValueError(DATABASE)
    elif not parts.path.strip("/"):
        raise ValueError(f"{DATABASE}; the name of the database is missing")


def check_files_url(text: str) -> None:
    """Check the address of a file store.

    Raises:
        ValueError: says what is expected.
    """
    parts = _split(text, FILES)
    is_folder = parts.scheme == "file" and bool(parts.path) and not parts.netloc
    if not is_folder and not (parts.scheme == "s3" and parts.netloc):
        raise ValueError(FILES)
    if any(name not in FILES_OPTIONS for name, _ in parse_qsl(parts.query)):
        raise ValueError(f"{FILES}; known options after the ?: {', '.join(FILES_OPTIONS)}")


def check_web_url(text: str) -> None:
    """Check a URL that is fetched; an empty one means that it is not set.

    Raises:
        ValueError: says what is expected.
    """
    parts = _split(text, WEB)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname or " " in text):
        raise ValueError(WEB)


def _split(text: str, expected: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:  # its text has a part of the URL in it
        raise ValueError(expected + ESCAPED) from None
    return parts


def _redis(url: SecretStr) -> SecretStr:
    check_redis_url(url.get_secret_value())
    return url


def _database(url: SecretStr) -> SecretStr:
    check_database_url(url.get_secret_value())
    return url


def _files(url: SecretStr) -> SecretStr:
    check_files_url(url.get_secret_value())
    return url


def _web(url: str) -> str:
    check_web_url(url)
    return url


RedisUrl = Annotated[SecretStr, AfterValidator(_redis)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database)]
FilesUrl = Annotated[SecretStr, AfterValidator(_files)]
WebUrl = Annotated[str, AfterValidator(_web)]
