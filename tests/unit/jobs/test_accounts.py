from pathlib import Path

import pytest

from jobs.accounts import KeyFile
from jobs.errors import Unauthenticated


def test_a_key_is_found_and_never_stored(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys.json"
    key, record = KeyFile(path).create("acme", "ci", weight=2.0)
    assert key not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    found = KeyFile(path).find(key)
    assert found == record
    assert (found.account, found.weight) == ("acme", 2.0)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    with pytest.raises(Unauthenticated):
        keys.find("pk_nope")


def test_a_key_made_by_another_process_is_seen_at_once(tmp_path: Path) -> None:
    reader, writer = KeyFile(tmp_path / "k.json"), KeyFile(tmp_path / "k.json")
    first, _ = writer.create("a")
    assert reader.find(first).account == "a"
    second, _ = writer.create("b")
    assert reader.find(second).account == "b"
    assert reader.find(first).account == "a"
