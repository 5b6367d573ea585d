"""Scaling policies: the settings of a KEDA ScaledObject and its HPA.

The named policies are variants of `SHIPPED`, which equals the manifests in `k8s/`. Invariant: a
policy that could never serve a waiting job (a maximum of zero workers) is refused.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from planning.errors import PolicyInvalid


class PolicyGroup(BaseModel):
    """An immutable group of fields; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Behaviour(PolicyGroup):
    """One direction of an HPA: per `period_seconds`, the larger of `percent` and `pods` at most."""

    window_seconds: float = Field(ge=0, le=3600)
    percent: int | None = Field(default=None, gt=0)
    pods: int | None = Field(default=None, gt=0)
    period_seconds: float = Field(gt=0, le=1800)

    @model_validator(mode="after")
    def _some_step(self) -> Self:
        if self.percent is None and self.pods is None:
            raise ValueError("percent or pods must be given")
        return self


class Policy(PolicyGroup):
    """The settings of a ScaledObject; `target` is the metric per worker as a share of its slots."""

    name: str = Field(min_length=1, max_length=100)
    kind: Literal["keda", "fixed"] = "keda"
    metric: Literal["queued+running", "queued"] = "queued+running"
    target: float = Field(default=1.0, gt=0, le=100)
    activation: float = Field(default=0, ge=0)
    min_replicas: int = Field(default=0, ge=0)
    max_replicas: int = Field(default=8, ge=1)
    polling_seconds: float = Field(default=5.0, gt=0)
    cooldown_seconds: float = Field(default=600.0, ge=0)
    sync_seconds: float = Field(default=15.0, gt=0)
    tolerance: float = Field(default=0.1, ge=0, lt=1)
    up: Behaviour = Behaviour(window_seconds=0, percent=100, pods=2, period_seconds=30)
    down: Behaviour = Behaviour(window_seconds=300, percent=50, period_seconds=60)

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas must not exceed max_replicas")
        if self.kind == "fixed" and not self.min_replicas:
            raise ValueError("a fixed fleet needs min_replicas of at least 1")
        return self

    def with_(self, **fields: object) -> "Policy":
        """Return a validated copy with some fields replaced.

        Raises:
            PolicyInvalid: the fields contradict each other.
        """
        return _checked({**self.model_dump(), **fields}, self.name)


def _checked(fields: dict[str, object], name: str) -> Policy:
    try:
        return Policy.model_validate(fields)
    except ValidationError as error:
        raise PolicyInvalid(f"policy {name}: {_lines(error)}") from error


def _lines(error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        field = ".".join(map(str, item["loc"])) or "policy"
        lines.append(f"{field}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)


SHIPPED = Policy(name="shipped")


def fixed(workers: int) -> Policy:
    """Return the policy of a fleet of constant size."""
    return Policy(name=f"fixed-{workers}", kind="fixed", min_replicas=workers, max_replicas=workers)


#: The policies that `--policy` accepts by name.
NAMED = {
    policy.name: policy
    for policy in (
        SHIPPED,
        SHIPPED.with_(name="warm", min_replicas=1),
        SHIPPED.with_(name="early", min_replicas=1, target=0.5),
        SHIPPED.with_(name="queue-only", metric="queued"),
    )
}


def find_policy(text: str) -> Policy:
    """Return the policy that a command-line argument names.

    Args:
        text: A name in NAMED, `fixed:N`, or the path of a JSON file.

    Raises:
        PolicyInvalid: there is no such policy; the message lists the choices.
    """
    if text in NAMED:
        return NAMED[text]
    kind, _, number = text.partition(":")
    if kind == "fixed" and number:
        if not number.isdecimal() or not int(number):
            raise PolicyInvalid(f"policy {text!r}: expected fixed:N, N being 1 or more")
        return fixed(int(number))
    if text.endswith(".json"):
        return _read(Path(text))
    raise PolicyInvalid(
        f"policy {text!r} not found; expected {', '.join(NAMED)}, fixed:N or a .json file"
    )


def _read(path: Path) -> Policy:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PolicyInvalid(f"{path}: {error.strerror}") from error
    try:
        return Policy.model_validate_json(raw)
    except ValidationError as error:
        raise PolicyInvalid(f"{path}: {_lines(error)}") from error
