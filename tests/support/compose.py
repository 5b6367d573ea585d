"""`docker-compose.yml` as Docker Compose reads it, and its commands as plain processes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from core.runtime.child_process import ChildProcess, Program, free_port
from tests.support.manifests import ROOT
from tests.support.programs import program
from tests.support.redis_server import binary

BIN = Path(sys.executable).parent


def docker_compose(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Docker Compose, which needs no Docker to read a file."""
    clean = {name: value for name, value in os.environ.items() if "PASSWORD" not in name}
    return subprocess.run(
        [program("docker-compose"), "--project-directory", str(ROOT), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=clean,
        timeout=60,
    )


def read(env_file: Path, *profiles: str) -> dict[str, Any]:
    """Return the file with variables, extensions and defaults resolved."""
    chosen = [word for profile in profiles for word in ("--profile", profile)]
    done = docker_compose("--env-file", str(env_file), *chosen, "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    whole: dict[str, Any] = json.loads(done.stdout)
    return whole


def seconds(duration: str) -> int:
    """Return a duration as Docker Compose writes it: 40s, 1m0s."""
    found = re.fullmatch(r"(?:(\d+)m)?(\d+)s", duration)
    assert found, duration
    return 60 * int(found[1] or 0) + int(found[2])


class Service(ChildProcess):
    """One service as a process: its command, environment and health check, on free ports.

    `substitutions` maps texts, such as other services' host names, to local ones. Programs
    that the image has under another name are `shims`.
    """

    def __init__(
        self, name: str, spec: dict[str, Any], directory: Path, substitutions: dict[str, str]
    ) -> None:
        self.spec = spec
        self._directory = directory
        self._substitutions = substitutions
        words = [self._here(word) for word in spec["command"] or ["not ours"]]
        command = (
            [binary("valkey"), *words[1:]]
            if words[0] == "valkey-server"
            else [str(BIN / "penstock"), *words]
        )
        super().__init__(
            Program(
                name,
                command,
                directory / f"{name}.log",
                self._environment(),
                directory,
                stop_seconds=seconds(spec.get("stop_grace_period", "10s")),
            )
        )

    def _here(self, text: str) -> str:
        for there, here in self._substitutions.items():
            text = re.sub(there, here, text)
        return text

    def _environment(self) -> dict[str, str]:
        """Return the container's environment, without the developer's."""
        given = {name: self._here(value) for name, value in self.spec["environment"].items()}
        path = os.pathsep.join([str(self._directory / "shims"), str(BIN), os.environ["PATH"]])
        return {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(self._directory), **given}

    def run(self) -> int:
        """Run it to its end."""
        self.begin()
        return self.wait(60)

    def exec(self, *words: str) -> str:
        """Run one more command in it; returns what it printed."""
        done = subprocess.run(
            [str(BIN / words[0]), *words[1:]],
            env=self.program.environment,
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def check(self) -> int:
        """Run its health check once; returns the exit code."""
        kind, *words = (self._here(word) for word in self.spec["healthcheck"]["test"])
        done = subprocess.run(
            words if kind == "CMD" else ["/bin/sh", "-c", *words],
            env=self.program.environment,
            cwd=self._directory,
            capture_output=True,
            check=False,
            timeout=10,
        )
        return done.returncode

    def ready(self) -> bool:
        """Whether its health check passes."""
        return self.check() == 0


def shim(directory: Path, name: str, command: str) -> None:
    """Put a program under the name that a health check uses."""
    folder = directory / "shims"
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    file.chmod(0o755)


def ports(*names: str) -> dict[str, int]:
    """Return free ports by name."""
    return {name: free_port() for name in names}
