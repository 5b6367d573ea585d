"""What can go wrong with the billing database, apart from bugs.

PipelineError
Overloaded:    DatabaseUnavailable                  (carries retry_after_seconds)
ClientError:   InvalidPrice
"""

from jobs.errors import ClientError, Overloaded


class DatabaseUnavailable(Overloaded):
    """The billing database does not answer, or its schema is not there yet."""

    code = "database-unavailable"


class InvalidPrice(ClientError):
    """A price that cannot be set: negative, overlapping, or changing the past."""

    code = "invalid-price"
