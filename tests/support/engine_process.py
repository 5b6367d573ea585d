"""Starts one engine in a fresh process, on this CPU or with other CPU features pretended.

`python -m tests.support.engine_process '<JSON>'` starts an engine, runs prompts in the order
given, and prints one JSON object. The pretended features come from a `sitecustomize` module
that every Python process of the engine imports, so a separate core sees them as well.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.settings.engine import EngineSettings
from workers.engine_factory import create_engine
from workers.engines.base import Generation, Output

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 400.0

#: Replaces answers of torch about the CPU as soon as torch has defined them.
SITE = """
import importlib.abc, importlib.machinery, json, os, sys

ANSWERS = json.loads(os.environ["TEST_CPU_ANSWERS"])

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "torch.cpu":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        original = spec.loader.exec_module
        def exec_module(module):
            original(module)
            for function, answer in ANSWERS.items():
                assert hasattr(module, function), function
                setattr(module, function, lambda answer=answer: answer)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


class Answers:
    """The sink: the texts and token counts of all generations."""

    def __init__(self) -> None:
        self.tokens: dict[str, int] = {}
        self.errors: list[str] = []
        self.ended = asyncio.Event()

    def step(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self.tokens[output.id] = self.tokens.get(output.id, 0) + len(output.token_ids)
            if output.error is not None:
                self.errors.append(output.error.message)
            if output.error is not None or output.finish_reason is not None:
                self.ended.set()

    def progress(self) -> None:
        """Only a worker watches the progress."""

    def dead(self, error: BaseException) -> None:
        self.errors.append(repr(error))
        self.ended.set()


async def run(order: dict[str, Any]) -> dict[str, Any]:
    """Start the engine, run the prompts one after the other, and return the outcome."""
    engine = create_engine(EngineSettings(slots=8, max_model_len=512, **order["settings"]))
    if not order["warm_up"]:
        _leave_out_warm_up()
    answers = Answers()
    info = await engine.start(answers)
    for length in order["prompts"]:
        answers.ended.clear()
        body = {"model": "m", "prompt": [9] * length, "max_tokens": 4, "ignore_eos": True}
        await engine.add(Generation(f"prompt of {length}", "/v1/completions", body))
        await answers.ended.wait()
    await engine.close()
    return {"info": asdict(info), "tokens": answers.tokens, "errors": answers.errors}


def _leave_out_warm_up() -> None:
    """Disable the warm-up, so that the model sees this run's first prompt first."""
    from workers.engines.vllm.warmup import WarmUp

    async def nothing(self: WarmUp) -> None:
        return None

    WarmUp.run = nothing  # type: ignore[method-assign]


def engine_process(
    folder: Path,
    prompts: Sequence[int],
    *,
    cpu: dict[str, bool] | None = None,
    warm_up: bool = True,
    threads: int = 2,
    **settings: Any,
) -> subprocess.CompletedProcess[str]:
    """Run an engine in a fresh process; its standard output's last line is the JSON object.

    Args:
        folder: An empty folder of the test's own.
        prompts: How many tokens each prompt has, in this order.
        cpu: What functions of `torch.cpu` are to answer, by name; the rest is this machine's.
        warm_up: Whether the engine warms up before the first of the prompts.
        threads: How many threads the kernels have.
        settings: Fields of `EngineSettings`.
    """
    (folder / "sitecustomize.py").write_text(SITE)
    order = {"settings": settings, "prompts": list(prompts), "warm_up": warm_up}
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))),
        "TEST_CPU_ANSWERS": json.dumps(cpu or {}),
        "OMP_NUM_THREADS": str(threads),
        "PYTHONFAULTHANDLER": "1",
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else importing vLLM takes 10 s more
    return subprocess.run(
        [sys.executable, "-m", "tests.support.engine_process", json.dumps(order)],
        cwd=ROOT,
        env=environment,
        text=True,
        capture_output=True,
        timeout=START_SECONDS,
        check=False,
    )


def outcome(process: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the output of a process that ended with exit code 0."""
    assert process.returncode == 0, process.stderr[-4000:]
    printed: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return printed


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(run(json.loads(sys.argv[1])))) + "\n")
