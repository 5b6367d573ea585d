"""Errors of batches that the API shows to clients."""

from core.errors import ClientError, Overloaded


class BatchMissing(ClientError):
    """Unknown batch, or another account's: the two look alike."""

    code = "batch-not-found"
    status = 404
    title = "Batch not found"


class BatchConflict(ClientError):
    """The batch's status does not allow this."""

    code = "batch-conflict"
    status = 409
    title = "Conflict with the batch's status"


class TooManyBatches(Overloaded):
    """The account has as many open batches as it may have."""

    code = "too-many-batches"
    status = 429
    title = "Too many batches"
