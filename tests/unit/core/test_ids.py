"""Ids are unique, sorted by time, and have one format."""

import multiprocessing
import re
from concurrent.futures import ThreadPoolExecutor

from core.ids import IDS_AT_ONCE, new_id

MANY = 3 * IDS_AT_ONCE


def some_ids(_: int = 0) -> list[str]:
    return [new_id("job") for _ in range(MANY)]


def random_parts(ids: list[str]) -> set[str]:
    return {one[-20:] for one in ids}


def test_an_id_names_its_kind_and_sorts_by_time() -> None:
    first, later = new_id("job"), new_id("job")
    assert re.fullmatch(r"job_[0-9a-f]{32}", first)
    assert first[:16] <= later[:16]


def test_threads_never_share_random_bytes() -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = [one for made in threads.map(some_ids, range(8)) for one in made]
    assert len(random_parts(ids)) == 8 * MANY


def test_a_forked_process_begins_with_random_bytes_of_its_own() -> None:
    new_id("job")  # leaves a started block behind
    with multiprocessing.get_context("fork").Pool(2) as forked:
        ids = [one for made in forked.map(some_ids, range(2)) for one in made]
    ids += some_ids()
    assert len(random_parts(ids)) == 3 * MANY
