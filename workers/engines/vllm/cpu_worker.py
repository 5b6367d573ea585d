"""vLLM's CPU worker with two additions: it reports its kernels and, if eager, compiles nothing.

vLLM creates it by class path in the process that holds the model: this one, the separate core, or a
process of the core.
"""

from pathlib import Path
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.v1.worker.cpu_worker import CPUWorker

MAPS = Path("/proc/self/maps")


class CpuWorker(CPUWorker):  # type: ignore[misc]  # vLLM has no types
    """The worker that vLLM's executor creates instead of `CPUWorker`."""

    def __init__(self, vllm_config: VllmConfig, *args: Any, **kwargs: Any) -> None:
        """Create the worker as vLLM does, after forbidding compilation where it is eager.

        vLLM decorates helpers of the sampler with `torch.compile` even in eager mode. The first
        request with log probabilities would start a C++ compiler, which can take two minutes and
        stops every stream meanwhile; run as written, such a helper takes less than a millisecond.
        """
        if vllm_config.model_config.enforce_eager:
            torch.compiler.set_stance("force_eager")
        super().__init__(vllm_config, *args, **kwargs)

    def describe_kernels(self) -> dict[str, Any]:
        """Return the attention kernels, the compiled extension and the number of threads."""
        layers = self.vllm_config.compilation_config.static_forward_context.values()
        kernels = {layer.isa for layer in layers if getattr(layer, "isa", None)}
        return {
            "kernel": ",".join(sorted(kernels)),
            "extension": loaded_extension(),
            "threads": torch.get_num_threads(),
        }


def loaded_extension() -> str:
    """Return the name of vLLM's compiled extension in this process, empty if it is not known.

    Python does not list two of the three as modules (vLLM ignores the error of their import), so
    this reads which libraries are mapped.
    """
    if not MAPS.exists():
        return ""
    lines = MAPS.read_text(encoding="utf-8", errors="replace").splitlines()
    names = {Path(line.split(maxsplit=5)[-1]).name for line in lines if "/vllm/_C" in line}
    return ",".join(sorted(name.partition(".")[0] for name in names))
