"""vLLM's kernels on every kind of CPU: the default start works on any machine.

A CPU with AMX is the one where vLLM 0.32 dies of SIGILL. Where there is none, its choice of
kernels is provoked by letting torch say that there is one; what only the hardware can show is
then said in the output. See docs/decisions/0009-no-amx-unless-asked.md.
"""

import logging
import signal
from pathlib import Path

import pytest

from tests.support.engine_process import engine_process, outcome
from workers.engines.cpu_features import read_cpu_features

log = logging.getLogger(__name__)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FIRST = (1, 2, 3, 4, 5, 64)  # tokens
AMX = {"_is_amx_tile_supported": True}
NO_BFLOAT16 = {"_is_avx512_bf16_supported": False}
NO_AVX512 = NO_BFLOAT16 | {"_is_avx512_supported": False}
CPU = read_cpu_features()


def prompts_after(first: int) -> tuple[int, ...]:
    """Return all lengths, that one first."""
    return (first, *(length for length in FIRST if length != first))


def first_prompts() -> tuple[int, ...]:
    """Return which lengths a fresh process begins with: all where AMX is, else one of them.

    Only an AMX kernel has a state that the first call sets up; each other kernel takes every
    call as the first, so all lengths in one process show the same.
    """
    return FIRST if CPU.amx else FIRST[:1]


@pytest.mark.parametrize("first", first_prompts())
def test_short_prompts_run_first_where_amx_is_not_asked_for(first: int, tmp_path: Path) -> None:
    process = engine_process(tmp_path, prompts_after(first), warm_up=False)
    result = outcome(process)

    assert result["errors"] == []
    assert result["tokens"] == {f"prompt of {length}": 4 for length in FIRST}
    assert result["info"]["kernel"] == CPU.kernel != "amx"
    assert result["info"]["extension"] == CPU.extension
    if not CPU.amx:
        log.warning("this CPU has no AMX: only the chosen kernel, %s, was checked", CPU.kernel)


@pytest.mark.skipif(CPU.architecture != "x86_64", reason="AMX is a feature of x86-64")
@pytest.mark.parametrize("core", ["in-process", "separate"])
def test_a_cpu_with_amx_gets_the_vec_kernel_in_each_core(core: str, tmp_path: Path) -> None:
    result = outcome(engine_process(tmp_path, FIRST, cpu=AMX, core=core, warm_up=False))

    assert result["errors"] == []
    assert result["tokens"] == {f"prompt of {length}": 4 for length in FIRST}
    assert result["info"]["kernel"] == "vec"


@pytest.mark.skipif(CPU.architecture != "x86_64", reason="AMX is a feature of x86-64")
def test_the_setting_brings_the_amx_kernel_back(tmp_path: Path) -> None:
    """Where AMX exists the engine works; elsewhere the kernel is really chosen, so it crashes."""
    # With one thread: of several that crash at once, one ends the process while another reports.
    process = engine_process(tmp_path, FIRST, cpu=AMX, threads=1, cpu_amx=True)

    if CPU.amx:
        result = outcome(process)
        assert result["info"]["kernel"] == "amx"
        assert result["tokens"] == {f"prompt of {length}": 4 for length in FIRST}
    else:
        log.warning("this CPU has no AMX: that its kernel is chosen shows in how it crashes")
        if CPU.extension == "_C":
            assert process.returncode == -signal.SIGILL
            assert "Fatal Python error: Illegal instruction" in process.stderr
            assert "engines/vllm/core.py" in process.stderr
        assert process.returncode != 0
        assert "cpu_has_no_amx" in process.stdout + process.stderr
        assert "engine_warm " not in process.stdout + process.stderr


@pytest.mark.skipif(CPU.architecture != "x86_64", reason="AVX is a feature of x86-64")
@pytest.mark.parametrize(
    ("core", "hidden", "extension"),
    [
        ("in-process", NO_AVX512, "_C_AVX2"),
        ("separate", NO_AVX512, "_C_AVX2"),
        ("in-process", NO_BFLOAT16, "_C_AVX512" if CPU.avx512 else "_C_AVX2"),
    ],
)
def test_an_older_cpu_runs_the_extension_made_for_it(
    core: str, hidden: dict[str, bool], extension: str, tmp_path: Path
) -> None:
    """The rest of torch still uses AVX-512 here; 0009 says how an emulated AVX2 CPU was tried."""
    result = outcome(engine_process(tmp_path, FIRST, cpu=hidden, core=core))

    assert result["errors"] == []
    assert result["tokens"] == {f"prompt of {length}": 4 for length in FIRST}
    assert result["info"]["kernel"] == "vec"
    assert result["info"]["extension"] == extension
