"""Which engine a worker drives: the one place that knows them all.

Invariant: vLLM is imported only where it was asked for.
"""

from core.settings.engine import EngineSettings
from workers.engines.base import Engine


def create_engine(settings: EngineSettings) -> Engine:
    """Return the engine that `settings.kind` names, not started."""
    if settings.kind == "vllm":
        from workers.engines.vllm import VllmEngine  # noqa: PLC0415

        return VllmEngine(settings)
    from workers.engines.simulated import SimulatedEngine  # noqa: PLC0415

    return SimulatedEngine(settings)
