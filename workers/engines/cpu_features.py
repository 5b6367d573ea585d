"""The CPU's features, and which compiled kernels vLLM will choose on it.

Reads `/proc/cpuinfo` and follows the rules of vLLM 0.32 (`_get_attn_isa` of its CPU attention and
`CpuPlatform.import_kernels`) without importing vLLM or torch, so that a check before the start
takes milliseconds. A contract test compares the answer with what a started engine runs.
"""

import platform
import sys
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
X86 = ("x86_64", "AMD64")
ARM = ("aarch64", "arm64")
WIDE = {"s390x": "vxe", "ppc64le": "vsx"}  # with blocks that are a multiple of 32


@dataclass(frozen=True, slots=True)
class CpuFeatures:
    """The features of a CPU, and the kernels that vLLM chooses on it.

    Attributes:
        architecture: The machine's name as `uname -m` prints it, such as `x86_64`.
        avx2: AVX2 is there; vLLM needs it at least on x86-64.
        avx512: AVX-512 is there.
        avx512_bf16: AVX-512 with bfloat16 instructions is there.
        amx: AMX tiles are there.
        kernel: The attention kernel that will be chosen: `amx`, `vec`, `vec16`, `neon`, `vxe`
            or `vsx`.
        extension: The compiled vLLM extension that will be loaded: `_C`, `_C_AVX512` or `_C_AVX2`.
    """

    architecture: str
    avx2: bool
    avx512: bool
    avx512_bf16: bool
    amx: bool
    kernel: str
    extension: str


def read_cpu_features(
    dtype: str = "bfloat16",
    *,
    allow_amx: bool = False,
    head_size: int | None = None,
    block_size: int = 128,
    cpuinfo: Path = CPUINFO,
    architecture: str | None = None,
) -> CpuFeatures:
    """Return this CPU's features and the kernels that an engine with these settings will run.

    Args:
        dtype: Number format of the model's weights, as in `engine.dtype`.
        allow_amx: Whether vLLM may use its AMX kernels, as in `engine.cpu_amx`.
        head_size: Size of one attention head of the model; None if it is not known.
        block_size: Tokens in one block of the KV cache; vLLM's default on a CPU is 128.
        cpuinfo: The file to read.
        architecture: The machine's name; None asks the system.

    Outside Linux there is no such file, and every x86 feature is reported as missing.

    Raises:
        OSError: `cpuinfo` cannot be read.
    """
    machine = architecture or platform.machine()
    flags: frozenset[str] = frozenset()
    if sys.platform == "linux" or cpuinfo != CPUINFO:
        flags = _flags(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    amx = "amx_tile" in flags
    return CpuFeatures(
        architecture=machine,
        avx2="avx2" in flags,
        avx512="avx512f" in flags,
        avx512_bf16="avx512_bf16" in flags,
        amx=amx,
        kernel=_kernel(machine, dtype, amx and allow_amx, head_size, block_size),
        extension=_extension(machine, flags),
    )


def _flags(text: str) -> frozenset[str]:
    """Return the feature flags of the first processor: `flags` on x86, `Features` on Arm."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            return frozenset(value.split())
    return frozenset()


def _kernel(machine: str, dtype: str, amx: bool, head_size: int | None, block_size: int) -> str:
    if head_size is not None and head_size % 32 and head_size % 16 == 0:
        return "vec16"
    wide = block_size % 32 == 0
    if amx and dtype in ("bfloat16", "auto") and wide:  # most models' own format is bfloat16
        return "amx"
    if machine in ARM:
        return "neon"
    return WIDE.get(machine, "vec") if wide else "vec16"


def _extension(machine: str, flags: frozenset[str]) -> str:
    if machine not in X86:
        return "_C"
    if "avx512f" not in flags:
        return "_C_AVX2"
    return "_C" if "avx512_bf16" in flags else "_C_AVX512"
