"""Who made a batch, as it stands now: a batch can do no more than its maker may at the moment."""

from accounts.caller import Caller
from core.errors import Unauthenticated
from intake.permissions import check_route
from intake.services import Services


async def find_caller(api: Services, field: str) -> Caller:
    """Return the record of who made a batch.

    Raises:
        Forbidden: a role or scopes were taken away that it takes to make a batch.
        Unauthenticated: the key was revoked or has expired, or the person may not call any more.
        AccountSuspended: the account may do nothing.
        StoreUnavailable, DatabaseUnavailable: come back later.
    """
    record = await api.callers.find(field)
    if record is None:
        raise Unauthenticated("the key that made this batch is no longer good")
    check_route("POST", "/v1/batches", record)
    return record
