"""The one way a limit is compared and refused.

Invariant: an error names the field, the limit and what was given.
"""

from core.errors import InvalidJob


def check_limit(field: str, given: int, limit: int, unit: str) -> None:
    """Refuse more than a limit.

    Args:
        field: The client's field.
        given: How much the request has.
        limit: How much it may have.
        unit: What is counted, such as `bytes of JSON schema`.

    Raises:
        InvalidJob: naming the field.
    """
    if given > limit:
        raise InvalidJob(f"{field}: expected at most {limit} {unit}, got {given}", param=field)
