"""Errors of servers that do not answer, and of locks that were lost meanwhile."""

from core.errors.base import Overloaded


class StoreUnavailable(Overloaded):
    """Redis does not answer, or refuses writes."""

    code = "store-unavailable"
    status = 503
    title = "Job store unavailable"


class DatabaseUnavailable(Overloaded):
    """The SQL database does not answer, or its schema is older than the code needs."""

    code = "database-unavailable"
    status = 503
    title = "Database unavailable"


class TokeniserUnavailable(Overloaded):
    """No worker of the model answers requests to its tokeniser now."""

    code = "tokeniser-unavailable"
    status = 503
    title = "Tokeniser unavailable"


class LockLost(Overloaded):
    """The submission needs a lock that its submitter does not hold."""

    code = "lock-lost"
    status = 503
    title = "Lock lost"
