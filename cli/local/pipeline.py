"""Runs the whole pipeline: starts it step by step, keeps it running, stops it in order.

Invariant: when `run` returns or raises, every child is gone.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr

from cli.checks.findings import Check, Finding, not_fine, print_findings, refuse, run_checks
from cli.connect.state_dir import PipelineState, StateDir
from cli.local.development import ensure_dev_key, prepare_database
from cli.local.plan import STOP_ORDER, Plan, process_programs, redis_program
from cli.local.readiness import Question, probe_answers, redis_answers, wait_for
from cli.local.steps import Steps
from cli.local.supervisor import Child, Ready, Supervisor
from cli.terminal.failures import Failure, Unreachable
from core.settings.tree import Settings

T = TypeVar("T")

NAMED_REDIS_SECONDS = 5.0
#: Processes that log `NAME_started` when they are ready, and what each one does.
BACKGROUND = {
    "control": "hands on the jobs of workers that died",
    "ledger": "records what jobs used and cost",
    "deliverer": "sends webhooks to accounts",
    "feeder": "submits the requests of batches",
}


class Stopped(Exception):
    """The user, or a signal, asked the pipeline to stop."""


class Pipeline:
    """One run of all processes in one state directory."""

    def __init__(
        self, state_dir: StateDir, settings: Settings, plan: Plan, steps: Steps, lock: int
    ) -> None:
        self._state_dir = state_dir
        self._settings = settings
        self._plan = plan
        self._steps = steps
        self._say = steps.console.print
        self._stop = asyncio.Event()
        #: The development key, if this run made one.
        self.new_key: str | None = None
        self._supervisor = Supervisor(
            lock,
            say=self._warn,
            restarted=self._write_state,
            cpu_amx=settings.engine.cpu_amx,
        )

    async def run(self, when_ready: Callable[[], Coroutine[Any, Any, int | None]]) -> int:
        """Start everything, run `when_ready`, and stop everything at the end.

        Args:
            when_ready: Returns the exit code, or None to keep running until a signal comes.

        Raises:
            Failure: a process did not start, or died and cannot be restarted.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._on_stop_signal)
        try:
            with self._steps:
                await self._until_stopped(self._start_all())
            code = await self._until_stopped(when_ready())
            if code is None:
                await self._until_stopped(asyncio.Event().wait())
        except Stopped:
            return 0
        else:
            return code or 0
        finally:
            await self._stop_all()

    def _warn(self, title: str, details: Sequence[str]) -> None:
        """Print what happened to a child, above the steps."""
        console = self._steps.console
        console.print(title, style="yellow", soft_wrap=True)
        for line in details:
            console.print(f"  {line}", style="dim", soft_wrap=True)

    def _on_stop_signal(self) -> None:
        """Stop in order; at the second signal, kill everything."""
        if self._stop.is_set():
            self._supervisor.kill()
        self._stop.set()

    async def _until_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, but end it when a child dies for good or a stop signal comes.

        Raises:
            Stopped: a signal asked for it.
            Failure: a child cannot be restarted.
        """
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop.wait())
        failure = self._supervisor.failure
        try:
            await asyncio.wait({task, stop, failure}, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                raise Stopped
            if failure.done():
                raise failure.result()
            return await task
        finally:
            for pending in (task, stop):
                pending.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    async def _start_all(self) -> None:
        for log in self._state_dir.logs.glob("*.log"):
            log.replace(log.with_suffix(".log.old"))
        await self._start_redis()
        await self._prepare_database()
        plan, engine, limits = self._plan, self._settings.engine, self._settings.up
        await asyncio.gather(
            *(
                self._start(name, logs(f"{name}_started"), limits.start_seconds, text)
                for name, text in BACKGROUND.items()
            ),
            self._start(
                "api", asks(probe_answers(f"{plan.url}/ready")), limits.start_seconds, plan.url
            ),
            self._start(
                "worker",
                asks(probe_answers(f"{plan.health_url}/ready")),
                limits.worker_start_seconds,
                f"{engine.served_name} is loaded and warm",
                meanwhile=f"loading {engine.served_name} into {engine.kind} (slow the first time)",
            ),
        )

    async def _start_redis(self) -> None:
        plan, steps = self._plan, self._steps
        steps.begin("redis", "starting")
        answers = redis_answers(
            self._settings.redis, plan.redis_url, lambda: steps.note("redis", "reading its data")
        )
        program = redis_program(plan, self._state_dir)
        if program is None:
            await self._find_redis(answers)
            findings = await self._check_redis()
            refuse(findings)
            steps.end("redis", f"the one at {plan.redis_address}")
            print_findings(findings, steps.console)
            return
        seconds = self._settings.up.start_seconds  # it loads its append-only file first
        child = self._supervisor.start(program, asks(answers), seconds)
        await _until_ready(child, seconds)
        name = Path(program.command[0]).name
        steps.end("redis", f"{name} on {plan.redis_address}, data in {self._state_dir.data}")

    async def _check_redis(self) -> list[Finding]:
        """Return the warnings and problems of a Redis that the settings name."""
        from cli.checks.servers import check_redis  # noqa: PLC0415 - not needed for the embedded one

        redis = self._settings.redis
        checks = [Check("redis", lambda: check_redis(redis))]
        return not_fine(await asyncio.to_thread(run_checks, checks))

    async def _prepare_database(self) -> None:
        self._steps.begin("database", "creating the tables")
        redis = self._settings.redis.model_copy(update={"url": SecretStr(self._plan.redis_url)})
        settings = self._settings.model_copy(update={"redis": redis})
        self._steps.end("database", await prepare_database(settings))
        self.new_key = await ensure_dev_key(self._state_dir, settings)

    async def _find_redis(self, answers: Question) -> None:
        try:
            await wait_for(answers, NAMED_REDIS_SECONDS, "redis")
        except Failure:
            raise Unreachable(
                f"no Redis answers at {self._plan.redis_address}",
                *(finding.text for finding in await self._check_redis()),
                "PENSTOCK_REDIS__URL names it; without that, an embedded one is started",
            ) from None

    async def _start(
        self, name: str, ready: Ready, seconds: float, text: str, meanwhile: str = "starting"
    ) -> None:
        self._steps.begin(name, meanwhile)
        program = process_programs(self._plan, self._state_dir, self._settings)[name]
        child = self._supervisor.start(program, ready, seconds)
        await _until_ready(child, seconds, lambda: self._steps.note(name, meanwhile))
        self._steps.end(name, text)
        self._write_state()

    def _write_state(self) -> None:
        plan, children = self._plan, self._supervisor.children
        self._state_dir.write_state(
            PipelineState(
                pid=os.getpid(),
                url=plan.url,
                health_url=plan.health_url,
                redis=plan.redis_address,
                embedded_redis=plan.redis_port is not None,
                model=self._settings.engine.served_name,
                children={name: child.pid for name, child in children.items()},
            )
        )

    async def _stop_all(self) -> None:
        if not self._supervisor.children:
            await self._supervisor.stop(())
            return
        began = time.monotonic()
        self._say("\nStopping; press Ctrl-C again to kill everything now.")
        await self._supervisor.stop(STOP_ORDER)
        self._state_dir.clear_state()
        self._say(f"Stopped in {time.monotonic() - began:.1f} s.")


def logs(event: str) -> Ready:
    """Return a question that asks whether the child has written `event` to its log."""

    async def ask(child: Child) -> bool:
        return await asyncio.to_thread(child.logged, event)

    return ask


def asks(question: Question) -> Ready:
    """Return a question that does not look at the child itself."""

    async def ask(child: Child) -> bool:
        del child
        return await question()

    return ask


async def _until_ready(
    child: Child, seconds: float, note: Callable[[], None] | None = None
) -> None:
    """Wait until the supervisor has seen that a child is ready; it also counts its crashes."""

    async def ask() -> bool:
        if note is not None:
            note()
        return child.was_ready

    await wait_for(ask, seconds, child.name)
