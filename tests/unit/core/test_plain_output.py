"""All that a process prints becomes JSON lines: prints, children, native code, crashes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import faulthandler, logging, os, subprocess, sys, threading, warnings
from core.logs import configure_logs
from core.runtime.plain_output import wrap_output
from core.settings.observability import LogSettings
faulthandler.enable()
configure_logs(LogSettings(), "worker", wrap_output("worker"))
logging.getLogger("celery").warning("from a library")
"""


def run(code: str, tmp_path: Path) -> tuple[int, list[dict[str, Any]], list[str]]:
    """Run a program; return its exit code, its JSON lines and its other lines."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM + code)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(root)},
        timeout=60,
        check=False,
    )
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    objects = [json.loads(line) for line in lines if line.startswith("{")]
    return done.returncode, objects, [line for line in lines if not line.startswith("{")]


def test_every_line_is_json_whoever_wrote_it(tmp_path: Path) -> None:
    code, found, others = run(
        """
print("printed")
print("progress 1\\rprogress 2", file=sys.stderr)
sys.stdout.flush()
os.write(2, b"from native code\\n")
subprocess.run([sys.executable, "-c", "print('from a child')"])
subprocess.run([sys.executable, "-c", 'print(\\'{"event": "as it is"}\\')'])
warnings.warn("careful")
thread = threading.Thread(target=lambda: 1 / 0, name="t")
thread.start()
thread.join()
""",
        tmp_path,
    )

    assert code == 0
    assert others == []
    events = {line["event"]: line for line in found}
    for event in ("printed", "progress 2", "from native code", "from a child", "from a library"):
        assert events[event]["process"] == "worker"
        assert events[event]["level"] == "warning"
        assert events[event]["timestamp"].endswith("Z")
    assert events["as it is"] == {"event": "as it is"}
    assert "ZeroDivisionError" in events["thread_failed"]["exception"]
    assert any("careful" in event for event in events)


@pytest.mark.parametrize("how", ["os.abort()", "os.kill(os.getpid(), 11)"])
def test_the_last_words_of_a_process_that_crashes_are_kept(how: str, tmp_path: Path) -> None:
    code, found, others = run(f'os.write(2, b"terminate called\\n")\n{how}\n', tmp_path)

    assert code < 0
    assert "terminate called" in {line["event"] for line in found}
    assert any("Fatal Python error" in line for line in others), "the stack is not delayed"
