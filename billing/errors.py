"""What can go wrong with the billing database, apart from bugs.

PipelineError: ExportFailed
Overloaded:    DatabaseUnavailable                  (carries retry_after_seconds)
ClientError:   InvalidPrice, InvalidBudget, InvalidMonth, InvalidAmount, AccountNotFound,
               InvoiceNotFound
MonthConflict: MonthNotOver, MonthOutOfOrder, MonthClosed, MonthNotClosed, UnpricedUsage
"""

from core.errors import ClientError, Overloaded, PipelineError


class DatabaseUnavailable(Overloaded):
    """The billing database does not answer, or its schema is not there yet."""

    code = "database-unavailable"


class InvalidPrice(ClientError):
    """A price that cannot be set: negative, overlapping, or changing the past."""

    code = "invalid-price"


class InvalidBudget(ClientError):
    """A budget that cannot be set."""

    code = "invalid-budget"


class InvalidMonth(ClientError):
    """What was given is no month; one is written 2026-11."""

    code = "invalid-month"


class InvalidAmount(ClientError):
    """An amount that cannot be credited or charged."""

    code = "invalid-amount"


class AccountNotFound(ClientError):
    """No such account."""

    code = "account-not-found"


class InvoiceNotFound(ClientError):
    """Unknown invoice, or another account's: the two look alike."""

    code = "invoice-not-found"


class MonthConflict(ClientError):
    """The state of a month does not allow this."""

    code = "month-conflict"


class MonthNotOver(MonthConflict):
    """A month that is still running, or has not begun, cannot be closed."""

    code = "month-not-over"


class MonthOutOfOrder(MonthConflict):
    """An earlier month with something in it is still open."""

    code = "month-out-of-order"


class MonthClosed(MonthConflict):
    """A closed month takes nothing more."""

    code = "month-closed"


class MonthNotClosed(MonthConflict):
    """Invoices there are only once the month is closed."""

    code = "month-not-closed"


class UnpricedUsage(MonthConflict):
    """Usage that is to be charged has no price yet."""

    code = "unpriced-usage"


class ExportFailed(PipelineError):
    """The files could not be written; nothing of them is left."""

    code = "export-failed"
