"""Which jobs a stopped worker is blamed on, and which jobs run alone because of it.

Invariant: a job that gave output in its attempt is not suspected, unless it was present at
`retry.max_deaths` stops. No stop of a worker counts as an attempt of a job.
"""

from enum import StrEnum


class Blame(StrEnum):
    """Why a running job is given back, as far as its next attempt is concerned.

    `NONE`: a drain, or a failure that is known. `ALONE`: a failure of an unknown cause, so the next
    attempt starts alone. `PRESENT`: its worker stopped while the job gave output. `SUSPECT`: its
    worker stopped before the job gave any.
    """

    NONE = ""
    ALONE = "alone"
    PRESENT = "present"
    SUSPECT = "suspect"


class Apart(StrEnum):
    """How long no other job may join a job: `START` until it gave output, `WHOLE` to its end."""

    NONE = ""
    START = "start"
    WHOLE = "whole"


class Occupancy(StrEnum):
    """What a worker runs: nothing, only jobs that gave output, or also others."""

    EMPTY = "empty"
    BEGUN = "begun"
    BUSY = "busy"
