"""Explains why a process died: its exit code or signal, what it was doing, and what to change.

Invariant: nothing here looks at the system or at files; what is known is in `Death`.
"""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

#: A shell, or a container's first process, reports the death of its child by signal n as 128 + n.
SHELL_BASE = 128
SHELL_LAST = 192
TAIL_LINES = 12
LONGEST_LINE = 300
FRAMES = 3
#: With more memory than this free, a lack of it is not the likely reason of a kill.
LITTLE_GIB = 1.0
DOCTOR = "`penstock doctor` checks this machine"

#: What the worker says in its log, the latest of which is what it was doing.
PHASES = {
    "engine_loading": "loading the model",
    "engine_warming_up": "running its first prompts (warm-up)",
    "engine_warm": "warm, and making itself known",
    "engine_ready": "ready: running jobs, or waiting for them",
    "drain_started": "handing its jobs over",
}
WORDS = {
    signal.SIGILL: "illegal instruction",
    signal.SIGKILL: "killed",
    signal.SIGSEGV: "access to memory that is not there",
    signal.SIGBUS: "access to memory that could not be provided",
    signal.SIGABRT: "it aborted itself",
    signal.SIGFPE: "arithmetic error in native code",
    signal.SIGTERM: "asked to end",
    signal.SIGINT: "interrupted",
}
#: What Python's fault handler writes into the log, also for a child of the process that died.
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
OUTSIDE = ["something else on this machine told it to end"]
LIKELY: dict[int, list[str]] = {
    signal.SIGBUS: [
        "likely: /dev/shm or the disk is full, or a file it had mapped was cut short",
        "look at: df -h /dev/shm . (a container gets more with docker run --shm-size=1g)",
    ],
    signal.SIGSEGV: NATIVE,
    signal.SIGFPE: NATIVE,
    signal.SIGABRT: ["likely: native code found an error or got no memory; its log says which"],
    signal.SIGTERM: OUTSIDE,
    signal.SIGINT: OUTSIDE,
}
PART = re.compile(r"""\bpart["']?[=:] ?(?:"([^"]+)"|'([^']+)'|(\w+))""")
FAULT = re.compile(r"^Fatal Python error: (.+)$")
FRAME = re.compile(r'^  File "(.+)", line (\d+) in (.+)$')


@dataclass(frozen=True, slots=True)
class Death:
    """What is known of a process that has died.

    Attributes:
        name: What it is called, such as `worker`.
        code: Its exit code; negative: the signal that ended it, as `subprocess` has it.
        was_ready: It had been ready, in this life or an earlier one.
        lines: What it wrote to its log since it was started, oldest first.
        lowest_gib: The least memory available in the seconds before, in GiB; None: unknown.
        oom_kills: Processes the kernel killed for memory in those seconds; None: unknown.
        cpu_amx: The AMX kernels of vLLM were allowed by the settings.
        own_kill: It was killed by the supervisor, since it did not become ready in this time.
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
    """Return the number of the signal that an exit code stands for; None if it is a plain one."""
    if code < 0:
        return -code
    return code - SHELL_BASE if SHELL_BASE < code <= SHELL_LAST else None


def fault_of(death: Death) -> int | None:
    """Return the signal that ended it, or that ended a native part of it by what its log says."""
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
    """Whether starting it again at once would be of no use.

    A process that ends with an exit code before it was ever ready has said in its log why it
    cannot start: a wrong setting, a model that is not there. A signal is a crash, and exit code 0
    means that somebody asked it to end; neither needs to happen twice.
    """
    return not death.was_ready and death.code > 0 and fault_of(death) is None


def cause(code: int) -> str:
    """Return an exit code in words, such as `signal 4, SIGILL`."""
    number = signal_of(code)
    if number is None:
        return f"exit code {code}"
    words = f"signal {number}, {_name(number)}"
    return words if code < 0 else f"exit code {code}: {words}"


def headline(death: Death) -> str:
    """Return what happened in one line, without a full stop."""
    if death.own_kill is not None:
        return f"{death.name} was not ready after {death.own_kill:.0f} s and was killed"
    when = "" if death.was_ready else " while starting"
    return f"{death.name} died{when} ({cause(death.code)})"


def explain(death: Death) -> list[str]:
    """Return what it was doing, the likely reasons and what to set, a line each."""
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
        return [*lines, "it hangs, or what it needs does not answer; its log may say what"]
    return [*lines, *_reasons(death, number)]


def shown_tail(lines: Sequence[str]) -> list[str]:
    """Return the last lines that help a reader, none of them endless.

    What Python's fault handler writes after its first line, the stacks of all threads, is left
    out: `explain` names the functions that count.
    """
    useful = [line[:LONGEST_LINE] for line in lines if line.strip()]
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
    return "starting: it had not begun to load the model"


def _frames(lines: Sequence[str]) -> list[str]:
    """Return the innermost functions of the thread that Python's fault handler names."""
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
        return ["it was built for another kind of CPU", DOCTOR]
    lines = ["likely: a compiled kernel uses an instruction that this CPU lacks or refuses"]
    other = "PENSTOCK_ENGINE__DTYPE=float32, which chooses other kernels"
    if death.cpu_amx:
        lines.append("set PENSTOCK_ENGINE__CPU_AMX=false: it lets vLLM use its AMX kernels now")
        return [*lines, f"if that does not help: {other}", DOCTOR]
    return [*lines, f"set {other}", DOCTOR]


def _killed(death: Death) -> list[str]:
    gib = death.lowest_gib
    free = "" if gib is None else f"; {gib:.1f} GiB was free shortly before"
    advice = LESS_MEMORY if death.name == "worker" else "give the machine or container more memory"
    if death.oom_kills == 0 and gib is not None and gib > LITTLE_GIB:
        first = f"likely: somebody killed it; the kernel counts no kill for lack of memory{free}"
        return [first, f"if it was memory all the same: {advice}"]
    sure = "the kernel" if death.oom_kills else "likely: the kernel"
    return [f"{sure} killed it because memory ran out{free}", advice]


def _plain(death: Death) -> list[str]:
    if death.code == 0:
        return ["it ended in order, which only a signal from outside makes it do"]
    if death.code == 126:
        return ["its program may not be executed: look at its permissions"]
    if death.code == 127:
        return ["its program was not found: is the installation complete? (make install)"]
    if death.was_ready:
        return ["it gave up by itself; the end of its log says why"]
    return ["it cannot start; the end of its log says why"]
