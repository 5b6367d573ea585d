"""Runs checks and prints their findings.

Invariant: a check never takes longer than its bound and never ends as a traceback: a check that
hangs or raises is reported as a problem.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from rich.console import Console

from cli.terminal.failures import Failure
from cli.terminal.plain_console import styled

CHECK_SECONDS = 15.0
INDENT = " " * 28


class Level(StrEnum):
    """The severity of a finding; only a problem prevents a run."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


STYLES = {Level.OK: "green", Level.WARNING: "bold yellow", Level.PROBLEM: "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `penstock doctor`; each line of `advice` says what to do."""

    name: str
    level: Level
    text: str
    advice: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Check:
    """A check; `name` is the name of its findings."""

    name: str
    run: Callable[[], Finding | Sequence[Finding]]


def fine(name: str, text: str) -> Finding:
    """Return a finding without a fault."""
    return Finding(name, Level.OK, text)


def warning(name: str, text: str, *advice: str) -> Finding:
    """Return a finding of something that works but may fail later."""
    return Finding(name, Level.WARNING, text, advice)


def problem(name: str, text: str, *advice: str) -> Finding:
    """Return a finding of something that must be changed before a run."""
    return Finding(name, Level.PROBLEM, text, advice)


def run_checks(checks: Iterable[Check], seconds: float = CHECK_SECONDS) -> list[Finding]:
    """Run checks in parallel and return their findings, in the order of the checks.

    Args:
        checks: The checks.
        seconds: How long each may take; a thread that hangs runs until this process ends.
    """
    running = [(check, *_begin(check)) for check in checks]
    found: list[Finding] = []
    for check, thread, findings in running:
        thread.join(seconds)
        if thread.is_alive():
            text = f"no answer within {seconds:g} s"
            found.append(problem(check.name, text, "a disk, a mount or a server may hang"))
        else:
            found += findings
    return found


def refuse(findings: Iterable[Finding]) -> None:
    """Raise Failure for the first problem; do nothing if there is none."""
    problems = [finding for finding in findings if finding.level is Level.PROBLEM]
    if problems:
        first, *others = problems
        more = [f"and {len(others)} more: penstock doctor"] if others else []
        raise Failure(first.text, *first.advice, *more)


def not_fine(findings: Iterable[Finding]) -> list[Finding]:
    """Return the warnings and problems."""
    return [finding for finding in findings if finding.level is not Level.OK]


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print a line for each finding, and its advice below."""
    for finding in findings:
        level = (f"{finding.level:<8}", STYLES[finding.level])
        name = (f"{finding.name:<18}", "bold")
        console.print(styled(level, " ", name, " ", finding.text), soft_wrap=True)
        for line in finding.advice:
            console.print(f"{INDENT}{line}", style="dim", soft_wrap=True)


def _begin(check: Check) -> tuple[threading.Thread, list[Finding]]:
    findings: list[Finding] = []

    def work() -> None:
        findings.extend(_run(check))

    thread = threading.Thread(target=work, name=f"check {check.name}", daemon=True)
    thread.start()
    return thread, findings


def _run(check: Check) -> Sequence[Finding]:
    try:
        found = check.run()
    except Failure as failure:
        return [problem(check.name, failure.title, *failure.advice)]
    except Exception as error:  # noqa: BLE001 - any error must be shown as a finding
        return [problem(check.name, f"this check failed: {type(error).__name__}: {error}")]
    return [found] if isinstance(found, Finding) else found
