"""From our settings to vLLM's configuration, and the classes of ours that vLLM is to create.

Invariant: on a CPU, the process that holds the model creates one of our workers, so that AMX is
refused there unless `engine.cpu_amx` asks for it.
"""

from typing import Any

import structlog
from vllm.config import VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.platforms import current_platform

from core.settings import EngineSettings

log = structlog.get_logger()

CPU_WORKER = "vllm.v1.worker.cpu_worker.CPUWorker"
WORKERS = {  # by whether AMX is allowed
    True: "workers.engines.vllm_cpu_worker.CpuWorker",
    False: "workers.engines.vllm_cpu_worker.CpuWorkerWithoutAmx",
}
PENALTIES = "workers.engines.vllm_penalties:ResumedPenalties"


def engine_config(settings: EngineSettings) -> VllmConfig:
    """Return vLLM's configuration for these settings."""
    eager = settings.enforce_eager
    arguments: dict[str, Any] = {
        "model": settings.model,
        "served_model_name": settings.served_name,
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.slots,
        "enforce_eager": current_platform.is_cpu() if eager is None else eager,
        "quantization": settings.quantization,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "reasoning_parser": settings.reasoning_parser or "",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if settings.task == "embed":
        arguments["runner"] = "pooling"
    config = EngineArgs(**(arguments | settings.extra_args)).create_engine_config()
    generates = settings.task == "generate"
    if generates and not config.use_v2_model_runner and config.speculative_config is None:
        # The only model runner that takes such processors; `Front` asks whether it is there.
        config.model_config.logits_processors = [PENALTIES]
    parallel = config.parallel_config
    if parallel.worker_cls == CPU_WORKER:
        parallel.worker_cls = WORKERS[settings.cpu_amx]
    elif current_platform.is_cpu():  # `extra_args` names another class
        log.warning("cpu_worker_replaced", worker=parallel.worker_cls, amx_refused=False)
    return config
