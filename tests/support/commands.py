"""Runs commands as a user types them: `penstock`, and the shell commands of a page."""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.runtime.child_process import ChildProcess, Program
from tests.support.environment import inherited
from tests.support.machine import bound
from tests.support.processes import ROOT

PENSTOCK = Path(sys.executable).with_name("penstock")

Done = subprocess.CompletedProcess[str]


def run(
    command: Sequence[str],
    *,
    directory: Path | None = None,
    env: Mapping[str, str] | None = None,
    seconds: float = 60.0,
) -> Done:
    """Run a command to its end, on any exit code.

    Args:
        command: The program and its arguments.
        directory: Its working directory.
        env: All of its environment variables; by default the shell's.
        seconds: The time limit on a quiet machine.
    """
    return subprocess.run(
        command,
        cwd=directory,
        env=inherited() if env is None else env,
        capture_output=True,
        text=True,
        timeout=bound(seconds),
        check=False,
    )


def penstock(
    *words: str,
    directory: Path | None = None,
    env: Mapping[str, str] | None = None,
    seconds: float = 60.0,
) -> Done:
    """Run one `penstock` command to its end; see `run`."""
    return run([str(PENSTOCK), *words], directory=directory, env=env, seconds=seconds)


def started(command: Sequence[str], log: Path, **variables: str) -> ChildProcess:
    """Start a command without waiting for it; `variables` are added to the shell's."""
    process = ChildProcess(Program(log.stem, command, log, {**inherited(), **variables}))
    process.begin()
    return process


def page_commands(*titles: str, language: str = "sh") -> list[str]:
    """Return the code blocks of docs/api.md's introduction and of these sections of it.

    The introduction's commands set what those of the sections need.
    """
    introduction, *sections = (ROOT / "docs/api.md").read_text().split("\n## ")
    wanted = tuple(f"{title}\n" for title in titles)
    text = "\n".join((introduction, *(one for one in sections if one.startswith(wanted))))
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def bash(
    *commands: str,
    directory: Path | None = None,
    env: Mapping[str, str] | None = None,
    seconds: float = 120.0,
) -> Done:
    """Run shell commands up to the first that fails; see `run`."""
    script = ["bash", "-euo", "pipefail", "-c", "\n".join(commands)]
    return run(script, directory=directory, env=env, seconds=seconds)
