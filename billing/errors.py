"""Errors of prices, budgets, invoices and exports.

PipelineError: ExportFailed
ClientError:   InvalidPrice, InvalidBudget, InvalidMonth, InvalidAmount, InvoiceNotFound
MonthConflict: MonthNotOver, MonthOutOfOrder, MonthClosed, MonthNotClosed, UnpricedUsage
"""

from core.errors import ClientError, PipelineError


class InvalidPrice(ClientError):
    """A price that cannot be set: negative, overlapping, or changing the past."""

    code = "invalid-price"
    status = 422
    title = "Invalid price"


class InvalidBudget(ClientError):
    """A budget that cannot be set."""

    code = "invalid-budget"
    status = 422
    title = "Invalid budget"


class InvalidMonth(ClientError):
    """What was given is no month; one is written 2026-11."""

    code = "invalid-month"
    status = 422
    title = "Invalid month"


class InvalidAmount(ClientError):
    """An amount that cannot be credited or charged."""

    code = "invalid-amount"
    status = 422
    title = "Invalid amount"


class InvoiceNotFound(ClientError):
    """Unknown invoice, or another account's: the two look alike."""

    code = "invoice-not-found"
    status = 404
    title = "Invoice not found"


class MonthConflict(ClientError):
    """The state of a month does not allow this."""

    code = "month-conflict"
    status = 409
    title = "Conflict with the month's state"


class MonthNotOver(MonthConflict):
    """A month that is still running, or has not begun, cannot be closed."""

    code = "month-not-over"
    status = 409
    title = "Month not over"


class MonthOutOfOrder(MonthConflict):
    """An earlier month with something in it is still open."""

    code = "month-out-of-order"
    status = 409
    title = "Earlier month open"


class MonthClosed(MonthConflict):
    """A closed month takes nothing more."""

    code = "month-closed"
    status = 409
    title = "Month closed"


class MonthNotClosed(MonthConflict):
    """Invoices there are only once the month is closed."""

    code = "month-not-closed"
    status = 409
    title = "Month not closed"


class UnpricedUsage(MonthConflict):
    """Usage that is to be charged has no price yet."""

    code = "unpriced-usage"
    status = 409
    title = "Usage without a price"


class ExportFailed(PipelineError):
    """The files could not be written; nothing of them is left."""

    code = "export-failed"
    status = 500
    title = "Export failed"
