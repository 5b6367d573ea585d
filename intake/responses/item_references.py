"""Replaces references to items of earlier responses with the items.

An item's id has its response's number in it, so nothing else is kept to find it: an item exists as
long as its response, and only for the account of that response.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from core.errors import InvalidJob, JobGone, JobNotFound
from intake.responses.conversation import to_items
from intake.responses.response_lookup import find_response
from intake.services import Services
from jobs.result import ResultChoice
from jobs.status import Status
from wire.schemas.response_items import AnyItem, ItemReference
from wire.views.response import output_items

#: Prefix, `in` for an item of the input, the response's number, and the item's index.
ID = re.compile(r"(?:msg|rs|fc|fco)_(in)?([0-9a-f]{32})[0-9a-f]{4,}")
#: Each response is read once; a conversation refers to one for each turn of the model.
MAX_RESPONSES = 256
READ_AT_ONCE = 16

ITEM: TypeAdapter[Any] = TypeAdapter(AnyItem)


async def with_referenced_items(
    services: Services, account: str, items: Sequence[AnyItem]
) -> Sequence[AnyItem]:
    """Replace each reference with its item; the same sequence comes back if there is none.

    Args:
        services: What the process shares.
        account: The account that asks; the responses must belong to it.
        items: The input of a response.

    Raises:
        InvalidJob: an item does not exist, or its response is not completed; `param` names it.
        StoreUnavailable, DatabaseUnavailable: retry later.
    """
    numbers = [item.id for item in items if isinstance(item, ItemReference)]
    if not numbers:
        return items
    found = {match.group(1, 2) for number in numbers if (match := ID.fullmatch(number))}
    if len(found) > MAX_RESPONSES:
        text = f"input: expected references to at most {MAX_RESPONSES} responses, got {len(found)}"
        raise InvalidJob(text, param="input")
    reading = asyncio.Semaphore(READ_AT_ONCE)

    async def read(of_input: str | None, suffix: str) -> list[dict[str, Any]]:
        async with reading:
            return await _items_of(services, account, suffix, of_input=bool(of_input))

    kept = await asyncio.gather(*(read(*key) for key in found))
    known = {item["id"]: item for response in kept for item in response}
    return [
        _resolved(item, index, known) if isinstance(item, ItemReference) else item
        for index, item in enumerate(items)
    ]


def _resolved(reference: ItemReference, index: int, known: dict[str, Any]) -> AnyItem:
    item = known.get(reference.id)
    if item is None:
        where = f"input[{index}].id"
        raise InvalidJob(
            f"{where}: item {reference.id!r} not found. An item can be referred to as long as its"
            " response is kept, once that is completed; with store: false, send the item itself",
            param=where,
        )
    return ITEM.validate_python(item)  # type: ignore[no-any-return]


async def _items_of(
    services: Services, account: str, suffix: str, *, of_input: bool
) -> list[dict[str, Any]]:
    """Return the items of a response's input or output; none if they cannot be referred to."""
    try:
        found = await find_response(services, f"resp_{suffix}", account)
        job = found.job
        if of_input:
            first = int((job.spec.response or {})["instructed"])
            return to_items(job.spec.body["messages"][first:], suffix)
        if job.status is not Status.COMPLETED:
            return []
        result = await found.result(services)
    except (JobNotFound, JobGone):
        return []
    return output_items(job, result.choices.get(0, ResultChoice()))
