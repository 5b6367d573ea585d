"""Statuses of a job and the table of allowed transitions.

Invariant: a terminal status never changes. The Lua scripts enforce the same table;
`tests/integration/jobs/test_fence_and_ends.py` checks that they agree.
"""

from enum import StrEnum


class Status(StrEnum):
    """The statuses, named as in OpenAI's API, because its clients read them."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        """Return whether nothing may follow."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset(
        {Status.IN_PROGRESS, Status.CANCELLED, Status.EXPIRED},
    ),
    Status.IN_PROGRESS: frozenset(
        {
            Status.QUEUED,
            Status.COMPLETED,
            Status.FAILED,
            Status.CANCELLED,
            Status.EXPIRED,
        },
    ),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.EXPIRED: frozenset(),
}


def may_follow(before: Status, after: Status) -> bool:
    """Return whether a job may go from one status to the other."""
    return after in TRANSITIONS[before]
