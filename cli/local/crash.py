"""Explains why a process died: its exit code or signal, what it was doing, and what to change.

Invariant: nothing here reads the system or files; all input is in `Death`.
"""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

#: A shell or a container's first process reports that signal n killed its child as 128 + n.
SHELL_BASE = 128
SHELL_LAST = 192
TAIL_LINES = 12
MAX_LINE_LENGTH = 300
FRAMES = 3
#: With more free memory than this, a kill is unlikely to be for lack of memory.
LOW_MEMORY_GIB = 1.0
DOCTOR = "`penstock doctor` checks this machine"

#: Events of the worker's log; the latest one tells what the worker was doing.
PHASES = {
    "engine_loading": "loading the model",
    "engine_warming_up": "running its first prompts (warm-up)",
    "engine_warm": "warm, and registering",
    "engine_ready": "ready: running or waiting for jobs",
    "drain_started": "handing its jobs to other workers",
}
WORDS = {
    signal.SIGILL: "illegal instruction",
    signal.SIGKILL: "killed",
    signal.SIGSEGV: "invalid memory access",
    signal.SIGBUS: "access to memory that could not be provided",
    signal.SIGABRT: "the process aborted",
    signal.SIGFPE: "arithmetic error in native code",
    signal.SIGTERM: "told to stop",
    signal.SIGINT: "interrupted",
}
#: The beginnings of the lines that Python's fault handler writes to the log.
FAULTS = {
    "illegal instruction": signal.SIGILL,
    "segmentation fault": signal.SIGSEGV,
    "bus error": signal.SIGBUS,
    "aborted": signal.SIGABRT,
    "floating": signal.SIGFPE,
}
LESS_MEMORY = (
    "set PENSTOCK_ENGINE__KV_CACHE_GIB (on the CPU), PENSTOCK_ENGINE__MAX_MODEL_LEN or"
    " PENSTOCK_ENGINE__SLOTS lower, or use a smaller model or a larger machine"
)
NATIVE = ["likely: a fault in native code, or a library that does not fit this machine", DOCTOR]
OUTSIDE = ["another process on this machine told it to stop"]
LIKELY: dict[int, list[str]] = {
    signal.SIGBUS: [
        "likely: /dev/shm or the disk is full, or a mapped file was truncated",
        "check: df -h /dev/shm . (in a container, docker run --shm-size=1g gives more)",
    ],
    signal.SIGSEGV: NATIVE,
    signal.SIGFPE: NATIVE,
    signal.SIGABRT: ["likely: native code found an error or got no memory; the log tells which"],
    signal.SIGTERM: OUTSIDE,
    signal.SIGINT: OUTSIDE,
}
PART = re.compile(r"""\bpart["']?[=:] ?(?:"([^"]+)"|'([^']+)'|(\w+))""")
FAULT = re.compile(r"^Fatal Python error: (.+)$")
FRAME = re.compile(r'^  File "(.+)", line (\d+) in (.+)$')


@dataclass(frozen=True, slots=True)
class Death:
    """What is known about a process that has died.

    Attributes:
        name: Its name, such as `worker`.
        code: Its exit code; negative: the signal that killed it, as in `subprocess`.
        was_ready: Whether it had been ready, in this run or an earlier one.
        lines: The lines of its log since its start, oldest first.
        lowest_gib: The least available memory in the seconds before, in GiB; None: unknown.
        oom_kills: Processes that the kernel killed for lack of memory then; None: unknown.
        cpu_amx: Whether the settings allowed vLLM's AMX kernels.
        own_kill: Seconds after which the supervisor killed it because it was not ready; or None.
    """

    name: str
    code: int
    was_ready: bool = False
    lines: Sequence[str] = ()
    lowest_gib: float | None = None
    oom_kills: int | None = None
    cpu_amx: bool = False
    own_kill: float | None = None


def signal_of(code: int) -> int | None:
    """Return the signal that an exit code stands for; None if it stands for none."""
    if code < 0:
        return -code
    return code - SHELL_BASE if SHELL_BASE < code <= SHELL_LAST else None


def fault_of(death: Death) -> int | None:
    """Return the signal that killed it, from its exit code or else from its log."""
    number = signal_of(death.code)
    if number is not None:
        return number
    for line in reversed(death.lines):
        found = FAULT.match(line)
        for words, fault in FAULTS.items():
            if found and found[1].lower().startswith(words):
                return int(fault)
    return None


def is_final(death: Death) -> bool:
    """Return whether a restart would be useless.

    A process that ends with an exit code before it was ever ready cannot start, for example because
    of a wrong setting or a missing model; its log tells why. A signal is a crash, and exit code 0
    means that a user or a program stopped it: neither has to happen again.
    """
    return not death.was_ready and death.code > 0 and fault_of(death) is None


def cause(code: int) -> str:
    """Return an exit code as text, such as `signal 4, SIGILL`."""
    number = signal_of(code)
    if number is None:
        return f"exit code {code}"
    words = f"signal {number}, {_name(number)}"
    return words if code < 0 else f"exit code {code}: {words}"


def headline(death: Death) -> str:
    """Return what happened in one line, without a full stop at the end."""
    if death.own_kill is not None:
        return f"{death.name} was not ready after {death.own_kill:.0f} s and was killed"
    when = "" if death.was_ready else " while starting"
    return f"{death.name} died{when} ({cause(death.code)})"


def explain(death: Death) -> list[str]:
    """Return lines about what it was doing, the likely reasons and what to change."""
    number = fault_of(death)
    lines = []
    if number in WORDS:
        lines.append(f"{_name(number)}: {WORDS[signal.Signals(number)]}")
    doing = _phase(death)
    if doing:
        lines.append(f"it was {doing}")
    frames = _frames(death.lines)
    if frames:
        lines.append(f"in the code: {' < '.join(frames)}")
    if death.own_kill is not None:
        return [*lines, "it hangs, or a server that it needs does not answer; see its log"]
    return [*lines, *_reasons(death, number)]


def shown_tail(lines: Sequence[str]) -> list[str]:
    """Return the last lines that help a reader, cut to `MAX_LINE_LENGTH`.

    The stacks that Python's fault handler writes after its first line are left out, because
    `explain` names the innermost functions.
    """
    useful = [line[:MAX_LINE_LENGTH] for line in lines if line.strip()]
    faults = [index for index, line in enumerate(useful) if FAULT.match(line)]
    end = faults[-1] + 1 if faults else len(useful)
    return useful[:end][-TAIL_LINES:]


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def _phase(death: Death) -> str | None:
    if death.name != "worker":
        return None
    for line in reversed(death.lines):
        for event, words in PHASES.items():
            if event in line:
                part = PART.search(line)
                return f"{words}: {part[part.lastindex or 0]}" if part else words
    return "starting, before it loaded the model"


def _frames(lines: Sequence[str]) -> list[str]:
    """Return the innermost functions of the thread in which the fault occurred."""
    frames: list[str] = []
    for line in lines:
        if line.startswith(("Current thread ", "Fatal Python error: ")):
            frames = []
        found = FRAME.match(line)
        if found and len(frames) < FRAMES and not found[1].startswith("<frozen "):
            file = "/".join(found[1].split("/")[-2:])
            frames.append(f"{found[3]} ({file}:{found[2]})")
    return frames


def _reasons(death: Death, number: int | None) -> list[str]:
    if number == signal.SIGILL:
        return _illegal(death)
    if number == signal.SIGKILL:
        return _killed(death)
    return LIKELY[number] if number in LIKELY else _plain(death)


def _illegal(death: Death) -> list[str]:
    if death.name != "worker":
        return ["likely: it was built for another kind of CPU", DOCTOR]
    lines = ["likely: a compiled kernel uses an instruction that this CPU does not support"]
    other = "PENSTOCK_ENGINE__DTYPE=float32, which uses other kernels"
    if death.cpu_amx:
        lines.append("set PENSTOCK_ENGINE__CPU_AMX=false: vLLM may use its AMX kernels now")
        return [*lines, f"if that does not help: {other}", DOCTOR]
    return [*lines, f"set {other}", DOCTOR]


def _killed(death: Death) -> list[str]:
    gib = death.lowest_gib
    free = "" if gib is None else f"; {gib:.1f} GiB was free shortly before"
    advice = LESS_MEMORY if death.name == "worker" else "give the machine or container more memory"
    if death.oom_kills == 0 and gib is not None and gib > LOW_MEMORY_GIB:
        first = f"likely: a user or a program killed it, not the kernel for lack of memory{free}"
        return [first, f"if memory was the reason after all: {advice}"]
    killer = "the kernel" if death.oom_kills else "likely: the kernel"
    return [f"{killer} killed it because memory ran out{free}", advice]


def _plain(death: Death) -> list[str]:
    if death.code == 0:
        return ["it stopped normally: another process told it to stop"]
    if death.code == 126:
        return ["its program cannot be executed: check its permissions"]
    if death.code == 127:
        return ["its program was not found: is the installation complete? (make install)"]
    if death.was_ready:
        return ["it ended itself; the end of its log tells why"]
    return ["it cannot start; the end of its log tells why"]
