"""Cursors of lists are job ids."""

import time

import pytest

from api.http.cursor import check_list_cursor
from core.ids import new_id
from wire.errors import InvalidCursor


def test_list_cursors_are_ids_whatever_clock_stamped_them() -> None:
    job_id = new_id("job")
    future = f"job_{int(time.time() * 1000) + 3_600_000:012x}" + "0" * 20
    for right in (job_id, future):
        assert check_list_cursor(right) == right
    for wrong in ("", "job_", job_id[:-1], job_id.upper(), "job_*", f"{job_id}\n"):
        with pytest.raises(InvalidCursor):
            check_list_cursor(wrong)
