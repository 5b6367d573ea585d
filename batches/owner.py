"""Finds the current record of a batch's owner: a batch may do no more than its owner may now."""

from accounts.caller import Caller
from core.errors import Unauthenticated
from intake.permissions import check_route
from intake.services import Services


async def find_owner(services: Services, owner: str) -> Caller:
    """Return the record of the caller that created a batch.

    Args:
        services: What the process shares.
        owner: The field of the caller cache, as kept in the batch's row.

    Raises:
        Forbidden: the owner's role or scopes no longer allow it to create batches.
        Unauthenticated: the key was revoked or has expired, or the user is disabled.
        AccountSuspended: the account is suspended.
        StoreUnavailable, DatabaseUnavailable: retry later.
    """
    record = await services.callers.find(owner)
    if record is None:
        raise Unauthenticated("The API key that created this batch is no longer valid")
    check_route("POST", "/v1/batches", record)
    return record
