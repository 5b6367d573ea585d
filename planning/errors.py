"""Errors of planning, as a tree.

PlanningError
  TraceInvalid     a workload file
  ProfileInvalid   an engine's latency model
  PolicyInvalid    a scaling policy
  CannotFit        measurements that do not determine a model

Invariant: each message names the file, the line or the field, and states what was expected.
"""


class PlanningError(ValueError):
    """A plan cannot be made of this input."""


class TraceInvalid(PlanningError):
    """A workload file cannot be read."""


class ProfileInvalid(PlanningError):
    """An engine's latency model is wrong."""


class PolicyInvalid(PlanningError):
    """A scaling policy is unknown or contradicts itself."""


class CannotFit(PlanningError):
    """The measurements do not determine a latency model."""
