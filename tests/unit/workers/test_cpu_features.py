"""The kernel and the extension chosen for a CPU, from files in Linux's format."""

from pathlib import Path

import pytest

from workers.engines.cpu_features import read_cpu_features

HASWELL = "fpu sse2 avx avx2 fma"
SKYLAKE = f"{HASWELL} avx512f avx512bw"
GENOA = f"{SKYLAKE} avx512_bf16"
SAPPHIRE_RAPIDS = f"{GENOA} amx_bf16 amx_tile amx_int8"


def cpuinfo(folder: Path, flags: str, key: str = "flags") -> Path:
    file = folder / "cpuinfo"
    processors = [f"processor\t: {n}\nmodel name\t: a CPU\n{key}\t\t: {flags}\n" for n in (0, 1)]
    file.write_text("\n".join(processors))
    return file


@pytest.mark.parametrize(
    ("flags", "extension"),
    [
        (HASWELL, "_C_AVX2"),
        (SKYLAKE, "_C_AVX512"),
        (GENOA, "_C"),
        (SAPPHIRE_RAPIDS, "_C"),
    ],
)
def test_the_kernel_is_vec_on_every_x86_cpu_unless_amx_is_asked_for(
    tmp_path: Path, flags: str, extension: str
) -> None:
    features = read_cpu_features(cpuinfo=cpuinfo(tmp_path, flags), architecture="x86_64")

    assert (features.kernel, features.extension) == ("vec", extension)
    assert features.avx2
    assert features.avx512 is ("avx512f" in flags)
    assert features.avx512_bf16 is ("avx512_bf16" in flags)
    assert features.amx is ("amx_tile" in flags)


@pytest.mark.parametrize(
    ("flags", "dtype", "head_size", "block_size", "kernel"),
    [
        (SAPPHIRE_RAPIDS, "bfloat16", 64, 128, "amx"),
        (SAPPHIRE_RAPIDS, "float16", 64, 128, "vec"),
        (SAPPHIRE_RAPIDS, "bfloat16", 80, 128, "vec16"),
        (SAPPHIRE_RAPIDS, "bfloat16", 64, 16, "vec16"),
        (GENOA, "bfloat16", 64, 128, "vec"),
    ],
)
def test_amx_is_chosen_only_where_it_is_allowed_and_fits(
    tmp_path: Path, flags: str, dtype: str, head_size: int, block_size: int, kernel: str
) -> None:
    features = read_cpu_features(
        dtype,
        allow_amx=True,
        head_size=head_size,
        block_size=block_size,
        cpuinfo=cpuinfo(tmp_path, flags),
        architecture="x86_64",
    )

    assert features.kernel == kernel


def test_an_arm_cpu_gets_neon_and_the_only_extension(tmp_path: Path) -> None:
    file = cpuinfo(tmp_path, "fp asimd bf16 i8mm", key="Features")
    features = read_cpu_features(allow_amx=True, cpuinfo=file, architecture="aarch64")

    assert (features.kernel, features.extension) == ("neon", "_C")
    assert (features.avx2, features.avx512, features.amx) == (False, False, False)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_cpu_features(cpuinfo=tmp_path / "missing")


def test_amx_needs_a_number_format_that_is_bfloat16(tmp_path: Path) -> None:
    file = cpuinfo(tmp_path, SAPPHIRE_RAPIDS)
    chosen = {
        dtype: read_cpu_features(dtype, allow_amx=True, cpuinfo=file, architecture="x86_64").kernel
        for dtype in ("auto", "bfloat16", "float16", "float32")
    }

    assert chosen == {"auto": "amx", "bfloat16": "amx", "float16": "vec", "float32": "vec"}
