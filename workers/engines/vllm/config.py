"""Makes vLLM's configuration from our settings, with the paths of our classes vLLM creates.

Invariants: on a CPU, a configuration refuses AMX in every process it is sent to, unless
`engine.cpu_amx` asks for it. One backend enforces all grammars. No configuration lets vLLM
open a URL that a client sent.
"""

from typing import Any

import structlog
from vllm.config import StructuredOutputsConfig, VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.platforms import current_platform

from core.settings.engine import EngineSettings
from workers.engines.vllm.amx import RefusesAmx

log = structlog.get_logger()

CPU_WORKER = "vllm.v1.worker.cpu_worker.CPUWorker"
DESCRIBED_WORKER = "workers.engines.vllm.cpu_worker.CpuWorker"
#: Makes vLLM refuse every URL of media but `data:`. Its loader accepts all hosts if none is named,
#: so a host is named that cannot exist (RFC 6761); without a folder it opens no `file:` URL.
NO_FETCHING: dict[str, Any] = {
    "allowed_media_domains": ["media.invalid"],
    "allowed_local_media_path": "",
}
#: vLLM's choice `auto` keeps the backend of the first schema for all later ones, of other clients
#: too. With a fixed one, a schema is enforced or refused whatever came before it.
GRAMMAR_BACKEND = "xgrammar"
PENALTIES = "workers.engines.vllm.penalties:ResumedPenalties"


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
        "structured_outputs_config": StructuredOutputsConfig(backend=GRAMMAR_BACKEND),
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if settings.task == "embed":
        arguments["runner"] = "pooling"
    config = EngineArgs(**(arguments | settings.extra_args | NO_FETCHING)).create_engine_config()
    generates = settings.task == "generate"
    if generates and not config.use_v2_model_runner and config.speculative_config is None:
        # Only this model runner accepts such processors; `VllmFrontend` checks for ours.
        config.model_config.logits_processors = [PENALTIES]
    if current_platform.is_cpu():
        if config.parallel_config.worker_cls == CPU_WORKER:
            config.parallel_config.worker_cls = DESCRIBED_WORKER
        if not settings.cpu_amx:
            config.additional_config = RefusesAmx(config.additional_config)
    return config
