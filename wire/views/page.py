"""The list object of every route that returns a page."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Row = TypeVar("Row")


def list_page(
    rows: Sequence[Row], limit: int, view: Callable[[Row], dict[str, Any]]
) -> dict[str, Any]:
    """Show one page of a list.

    Args:
        rows: The rows of the page; one row more than `limit` means that another page follows.
        limit: Most rows to show.
        view: Shows one row as an object with an `id`.

    Returns:
        The list object; `last_id` is the cursor for the next page.
    """
    data = [view(row) for row in rows[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(rows) > limit,
    }
