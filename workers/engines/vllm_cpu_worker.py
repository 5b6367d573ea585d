"""vLLM's CPU worker with two additions: it can refuse AMX, and it says which kernels it runs.

vLLM creates it by class path in whichever process holds the model: this one, the separate core, or
a process of the core. So both hold for every way of running the core.
"""

from pathlib import Path
from typing import Any

import torch
from vllm.v1.worker.cpu_worker import CPUWorker

from workers.engines.vllm_amx import refuse_amx

MAPS = Path("/proc/self/maps")


class CpuWorker(CPUWorker):  # type: ignore[misc]  # vLLM has no types
    """The worker where AMX is allowed."""

    def describe_kernels(self) -> dict[str, Any]:
        """Return the attention kernels, the compiled extension and the number of threads."""
        layers = self.vllm_config.compilation_config.static_forward_context.values()
        kernels = {layer.isa for layer in layers if getattr(layer, "isa", None)}
        return {
            "kernel": ",".join(sorted(kernels)),
            "extension": loaded_extension(),
            "threads": torch.get_num_threads(),
        }


class CpuWorkerWithoutAmx(CpuWorker):
    """The worker where AMX is refused before vLLM chooses a kernel."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        refuse_amx()
        super().__init__(*args, **kwargs)


def loaded_extension() -> str:
    """Return the name of vLLM's compiled extension in this process, empty if it is not known.

    Python does not list two of the three as modules (vLLM ignores the error their import ends
    with), so this reads which libraries are mapped.
    """
    if not MAPS.exists():
        return ""
    lines = MAPS.read_text(encoding="utf-8", errors="replace").splitlines()
    names = {Path(line.split(maxsplit=5)[-1]).name for line in lines if "/vllm/_C" in line}
    return ",".join(sorted(name.partition(".")[0] for name in names))
