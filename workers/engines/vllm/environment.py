"""Prepares the process for vLLM, before it is imported: its environment variables and kernels."""

import os
from importlib.metadata import PackageNotFoundError, version

import structlog

from core.settings.engine import EngineSettings
from workers.engines.cpu_features import read_cpu_features

log = structlog.get_logger()


def prepare_environment(settings: EngineSettings) -> None:
    """Set vLLM's environment variables; call it before vLLM is first imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(int(settings.core == "separate"))
    defaults = {
        "VLLM_CPU_KVCACHE_SPACE": str(settings.kv_cache_gib),
        # In this process vLLM's log lines join ours; a separate core must configure its own log.
        "VLLM_CONFIGURE_LOGGING": str(int(settings.core == "separate")),
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_MAX_IMAGE_PIXELS": str(settings.image_pixels),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONFAULTHANDLER": "1",  # a core process that crashes prints its stack
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def built_for_cpu() -> bool:
    """Return whether the installed vLLM is a build for CPUs, without importing it."""
    try:
        return bool(version("vllm-cpu"))
    except PackageNotFoundError:
        return "cpu" in version("vllm")


def choose_kernels(settings: EngineSettings) -> None:
    """Refuse AMX unless it is asked for, and log the kernels vLLM will choose."""
    features = read_cpu_features(settings.dtype, allow_amx=settings.cpu_amx)
    log.info(
        "cpu_kernels_chosen",
        phase="loading",
        architecture=features.architecture,
        kernel=features.kernel,
        extension=features.extension,
        amx=features.amx,
        amx_allowed=settings.cpu_amx,
    )
    if not settings.cpu_amx:
        from workers.engines.vllm.amx import refuse_amx  # noqa: PLC0415  # it imports torch

        refuse_amx()
    elif not features.amx:
        log.warning("cpu_has_no_amx", setting="engine.cpu_amx", kernel=features.kernel)
