"""Time limits of tests grow only as much as the machine is slower."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import machine
from tests.support.processes import ROOT

CONFTEST = """
import pytest
from tests.support import machine, timeouts
machine.slowness = lambda: {factor}

@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item, settings):
    return timeouts.set_timer(item, settings)
"""
SLOW = """
import time
def test_slow():
    time.sleep(0.5)
"""


def test_a_bound_is_what_it_says_or_more_and_the_work_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert machine.bound(2) >= 2
    monkeypatch.setattr(machine, "REFERENCE_SECONDS", 1e9)
    assert machine.bound(2) == 2, "a faster machine shortens nothing"
    monkeypatch.setattr(machine, "REFERENCE_SECONDS", 1e-9)
    assert machine.bound(2) == 2 * machine.MOST


def test_a_bound_that_is_missed_is_missed_only_when_the_machine_is_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = time.monotonic() - 3
    monkeypatch.setattr(machine, "slowness", lambda: 1.0)
    assert machine.is_over(began, 2)
    assert not machine.is_over(began, 4)
    monkeypatch.setattr(machine, "slowness", lambda: 2.0)
    assert not machine.is_over(began, 2)


@pytest.mark.parametrize(("factor", "code"), [(1.0, 1), (100.0, 0)])
def test_the_limit_of_a_test_is_longer_while_the_machine_is_busy(
    tmp_path: Path, factor: float, code: int
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.format(factor=factor))
    (tmp_path / "test_it.py").write_text(SLOW)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-o", "timeout=0.1", "-p", "no:randomly", str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        | {"PYTEST_PLUGINS": "pytest_timeout"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert ("Timeout" in done.stdout) == bool(code)
