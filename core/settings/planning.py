"""Settings of `penstock simulate`."""

from decimal import Decimal
from typing import Literal

from pydantic import Field

from core.settings.base import SettingsGroup


class PlanningSettings(SettingsGroup):
    """The latency objective of a plan, and the cost of a GPU."""

    slo_seconds: float = Field(
        default=2.0, gt=0, description="Objective: maximum seconds from submit to `slo_on`."
    )
    slo_share: float = Field(
        default=0.95, gt=0, le=1, description="Share of the requests that must meet it."
    )
    slo_on: Literal["first_token", "claim"] = Field(
        default="first_token",
        description="What the objective measures: `first_token`, or `claim` by a worker.",
    )
    gpu_hour_cost: Decimal = Field(
        default=Decimal("2.50"), ge=0, description="Cost of one hour of one GPU."
    )
