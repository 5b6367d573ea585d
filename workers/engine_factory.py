"""Creates the engine that the settings name; every engine is listed here.

Invariant: vLLM is imported only if the settings ask for it.
"""

from typing import assert_never

from core.settings.engine import EngineSettings
from workers.engines.base import Engine


def create_engine(settings: EngineSettings) -> Engine:
    """Return an engine that is not started.

    Args:
        settings: `kind` names the engine.
    """
    if settings.kind == "vllm":
        from workers.engines.vllm.engine import VllmEngine  # noqa: PLC0415

        return VllmEngine(settings)
    if settings.kind == "simulated":
        from workers.engines.simulated import SimulatedEngine  # noqa: PLC0415

        return SimulatedEngine(settings)
    assert_never(settings.kind)
