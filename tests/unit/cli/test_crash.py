"""The explanation of a crash from exit code, log and free memory."""

import signal
from pathlib import Path

import pytest

from cli.checks.memory import MemoryWatch, available_gib, oom_kills
from cli.local.crash import Death, cause, explain, headline, is_final, shown_tail, signal_of

LOADING = "2026-11-29T22:00:00Z [info     ] engine_loading  kind=vllm model=/models/tiny"
WARM = "2026-11-29T22:00:09Z [info     ] engine_warming_up  part='stop string'"
READY = "2026-11-29T22:00:09Z [info     ] engine_ready  seconds=9.1 slots=32"
DRAIN = "2026-11-29T22:00:11Z [info     ] drain_started  jobs=2"


def text(death: Death) -> str:
    return "\n".join([headline(death), *explain(death)])


@pytest.mark.parametrize(
    ("code", "number"),
    [(0, None), (1, None), (126, None), (127, None), (128, None), (-9, 9), (137, 9), (139, 11)],
)
def test_signals_are_read_from_both_kinds_of_exit_codes(code: int, number: int | None) -> None:
    assert signal_of(code) == number


def test_a_cause_has_the_signals_number_and_name() -> None:
    assert cause(-4) == "signal 4, SIGILL"
    assert cause(132) == "exit code 132: signal 4, SIGILL"
    assert cause(-40) == "signal 40, SIG40"
    assert cause(3) == "exit code 3"


@pytest.mark.parametrize(
    ("lines", "doing"),
    [
        (['{"part": "decode", "event": "engine_warming_up"}'], "(warm-up): decode"),
        ([], "starting, before it loaded the model"),
        ([LOADING], "loading the model"),
        ([LOADING, WARM], "running its first prompts (warm-up): stop string"),
        ([LOADING, "[info     ] engine_warming_up  part=grammar"], "(warm-up): grammar"),
        (
            [LOADING, WARM, "[info     ] engine_warm  parts={'cancel': 0.1}"],
            "warm, and registering",
        ),
        ([LOADING, WARM, READY, "another line"], "ready: running or waiting for jobs"),
        ([LOADING, WARM, READY, DRAIN], "handing its jobs to other workers"),
    ],
)
def test_what_the_worker_was_doing_is_its_last_phase(lines: list[str], doing: str) -> None:
    assert doing in text(Death("worker", -11, lines=lines))
    assert doing not in text(Death("api", -11, lines=lines))


def test_an_illegal_instruction_names_the_settings_that_choose_other_kernels() -> None:
    plain = text(Death("worker", -signal.SIGILL, lines=[LOADING]))
    amx = text(Death("worker", -signal.SIGILL, lines=[LOADING], cpu_amx=True))

    assert "worker died while starting (signal 4, SIGILL)" in plain
    assert "PENSTOCK_ENGINE__DTYPE=float32" in plain
    assert "penstock doctor" in plain
    assert "CPU_AMX" not in plain
    assert "PENSTOCK_ENGINE__CPU_AMX=false" in amx
    assert "PENSTOCK_ENGINE" not in text(Death("redis", -signal.SIGILL))


@pytest.mark.parametrize(
    ("kills", "free", "said"),
    [
        (1, 0.3, "the kernel killed it because memory ran out; 0.3 GiB was free"),
        (1, 9.0, "the kernel killed it because memory ran out; 9.0 GiB was free"),
        (None, 0.3, "likely: the kernel killed it because memory ran out; 0.3 GiB was free"),
        (0, 0.3, "likely: the kernel killed it because memory ran out; 0.3 GiB was free"),
        (0, 9.0, "likely: a user or a program killed it, not the kernel"),
        (None, None, "likely: the kernel killed it because memory ran out"),
    ],
)
def test_a_kill_is_put_down_to_memory_unless_the_kernel_counts_none(
    kills: int | None, free: float | None, said: str
) -> None:
    found = explain(Death("worker", -9, was_ready=True, lowest_gib=free, oom_kills=kills))

    assert any(line.startswith(said) for line in found), found
    assert "PENSTOCK_ENGINE__KV_CACHE_GIB" in found[-1]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGBUS, "/dev/shm"),
        (signal.SIGSEGV, "fault in native code"),
        (signal.SIGFPE, "fault in native code"),
        (signal.SIGABRT, "the process aborted"),
        (signal.SIGTERM, "told it to stop"),
        (signal.SIGHUP, "signal 1, SIGHUP"),
    ],
)
def test_each_other_signal_has_reasons_of_its_own(number: int, said: str) -> None:
    assert said in text(Death("worker", -number, was_ready=True))


FAULT = [
    LOADING,
    "Fatal Python error: Illegal instruction",
    "",
    "Thread 0x00007f0000000001 (most recent call first):",
    '  File "/usr/lib/python3.11/threading.py", line 327 in wait',
    "",
    "Current thread 0x00007f0000000002 (most recent call first):",
    '  File "/venv/lib/python3.11/site-packages/torch/_ops.py", line 1269 in __call__',
    '  File "/venv/lib/python3.11/site-packages/vllm/_custom_ops.py", line 90 in attention',
    "",
    "Extension modules: " + "numpy.core._multiarray_umath, " * 50,
]


def test_the_stack_that_pythons_fault_handler_wrote_is_shown_in_short() -> None:
    found = text(Death("worker", -4, lines=FAULT))

    assert (
        "in the code: __call__ (torch/_ops.py:1269) < attention (vllm/_custom_ops.py:90)" in found
    )
    assert "threading.py" not in found


def test_a_native_crash_in_a_child_of_the_worker_is_known_from_the_log() -> None:
    death = Death("worker", 1, lines=FAULT)

    assert "PENSTOCK_ENGINE__DTYPE" in text(death)
    assert not is_final(death)


def test_only_a_process_that_says_that_it_cannot_start_is_not_tried_again() -> None:
    assert is_final(Death("worker", 1, lines=["EngineDead: the engine did not start"]))
    assert is_final(Death("redis", 127))
    for again in (Death("worker", -4), Death("worker", 139), Death("worker", 0)):
        assert not is_final(again)
    assert not is_final(Death("worker", 1, was_ready=True))


def test_exit_codes_are_told_apart() -> None:
    assert "cannot start" in text(Death("worker", 1))
    assert "ended itself" in text(Death("worker", 1, was_ready=True))
    assert "was not found" in text(Death("redis", 127))
    assert "stopped normally" in text(Death("api", 0, was_ready=True))
    assert "not ready after 60 s" in text(Death("api", -9, was_ready=True, own_kill=60.0))


def test_the_tail_of_a_log_has_no_empty_and_no_endless_lines() -> None:
    lines = [*(f"line {number}" for number in range(30)), "", "  ", "x" * 5000]

    shown = shown_tail(lines)

    assert len(shown) == 12
    assert shown[-2:] == ["line 29", "x" * 300]
    assert shown_tail(FAULT) == FAULT[:2]


def test_kills_for_memory_are_counted_by_the_kernel_and_by_the_container(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    assert oom_kills(vmstat, tmp_path) is None

    vmstat.write_text("pgfault 10\noom_kill 2\n")
    assert oom_kills(vmstat, tmp_path) == 2

    (tmp_path / "memory.events").write_text("low 0\noom 4\noom_kill 3\noom_group_kill 0\n")
    assert oom_kills(vmstat, tmp_path) == 3


def test_the_memory_of_the_last_seconds_is_kept() -> None:
    watch = MemoryWatch()
    assert watch.lowest() is None

    watch.read()
    watch.read()

    now = available_gib()
    assert now is not None
    assert watch.lowest() == pytest.approx(now, rel=0.5)
    assert watch.kills() == (None if oom_kills() is None else 0)
