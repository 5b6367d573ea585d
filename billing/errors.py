"""Errors of prices, budgets, invoices and exports.

PipelineError: ExportFailed
ClientError:   InvalidPrice, InvalidBudget, InvalidMonth, InvalidAmount, InvoiceNotFound
MonthConflict: MonthNotOver, MonthOutOfOrder, MonthClosed, MonthNotClosed, UnpricedUsage,
               UsageWaits
"""

from core.errors import ClientError, PipelineError


class InvalidPrice(ClientError):
    """A price that cannot be set: out of range, too many decimals, or it would change the past."""

    code = "invalid-price"
    status = 422
    title = "Invalid price"


class InvalidBudget(ClientError):
    """A budget that cannot be set: a field is out of range."""

    code = "invalid-budget"
    status = 422
    title = "Invalid budget"


class InvalidMonth(ClientError):
    """Not a UTC month in the form 2026-11."""

    code = "invalid-month"
    status = 422
    title = "Invalid month"


class InvalidAmount(ClientError):
    """An amount that cannot be credited or charged."""

    code = "invalid-amount"
    status = 422
    title = "Invalid amount"


class InvoiceNotFound(ClientError):
    """An unknown invoice, or one of another account: clients cannot tell which."""

    code = "invoice-not-found"
    status = 404
    title = "Invoice not found"


class MonthConflict(ClientError):
    """The state of a month does not allow the request."""

    code = "month-conflict"
    status = 409
    title = "Conflict with the month's state"


class MonthNotOver(MonthConflict):
    """A month cannot be closed before it is over."""

    code = "month-not-over"
    status = 409
    title = "Month not over"


class MonthOutOfOrder(MonthConflict):
    """An earlier month with usage or adjustments is still open."""

    code = "month-out-of-order"
    status = 409
    title = "Earlier month open"


class MonthClosed(MonthConflict):
    """A closed month accepts no adjustments."""

    code = "month-closed"
    status = 409
    title = "Month closed"


class MonthNotClosed(MonthConflict):
    """A month has no invoices before it is closed."""

    code = "month-not-closed"
    status = 409
    title = "Month not closed"


class UnpricedUsage(MonthConflict):
    """Usage that should be charged has no price yet."""

    code = "unpriced-usage"
    status = 409
    title = "Usage without a price"


class UsageWaits(MonthConflict):
    """Usage of the month is not in the ledger yet."""

    code = "usage-waits"
    status = 409
    title = "Usage not recorded yet"


class ExportFailed(PipelineError):
    """The files could not be written; no part of them is left."""

    code = "export-failed"
    status = 500
    title = "Export failed"
