"""Which jobs a stopped worker is blamed on, and which jobs run alone because of it.

Invariant: a job fails as `poison-job` only by stops of workers at each of which it ran alone, so
no other job can have caused them. No stop of a worker counts as an attempt of a job.
`docs/decisions/0012-who-is-blamed.md` says why.
"""

from enum import StrEnum


class Blame(StrEnum):
    """Why a running job is given back, as far as its next attempt is concerned.

    `NONE`: a drain, or a failure that is known. `ALONE`: a failure of an unknown cause, so the next
    attempt starts alone. `ENGINE`: the worker saw its engine fail or hang. `UNKNOWN`: the worker
    or its engine was stopped from outside, or nothing is known about the stop.
    """

    NONE = ""
    ALONE = "alone"
    ENGINE = "engine"
    UNKNOWN = "unknown"


class Apart(StrEnum):
    """What may run beside a job.

    `START`: before its first output only jobs that gave output. `ALONE`: before its first output
    nothing. `WHOLE`: nothing to its end.
    """

    NONE = ""
    START = "start"
    ALONE = "alone"
    WHOLE = "whole"


class Occupancy(StrEnum):
    """What a worker runs: nothing, only jobs that gave output, or also others."""

    EMPTY = "empty"
    BEGUN = "begun"
    BUSY = "busy"
