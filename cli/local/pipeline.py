"""Runs the whole pipeline: starts it step by step, keeps it running, stops it in order.

Invariant: `run` returns or raises only when every child is gone, however it ends.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr

from cli.connect.state_dir import PipelineState, StateDir
from cli.local.development import ensure_dev_key, prepare_database
from cli.local.plan import STOP_ORDER, Plan, process_specs, redis_spec
from cli.local.readiness import Question, http_ok, log_says, redis_answers, wait_for
from cli.local.steps import Steps
from cli.local.supervisor import Supervisor
from cli.terminal.failures import Failure, Unreachable
from core.settings.tree import Settings

T = TypeVar("T")

REDIS_SECONDS = 120.0  # it reads its append-only file first
OTHER_REDIS_SECONDS = 5.0
PROCESS_SECONDS = 60.0
MODEL_SECONDS = 1800.0  # a large model from a slow disk


class Stopped(Exception):
    """Somebody asked for the end."""


class Pipeline:
    """One run of everything."""

    def __init__(
        self, home: StateDir, settings: Settings, plan: Plan, steps: Steps, lock: int
    ) -> None:
        self._home = home
        self._settings = settings
        self._plan = plan
        self._steps = steps
        self._say = steps.console.print
        self._stop = asyncio.Event()
        #: The development key, if it was made in this run.
        self.new_key: str | None = None
        self._supervisor = Supervisor(
            lock, say=lambda text: self._say(f"[yellow]{text}"), restarted=self._write_state
        )

    async def run(self, when_ready: Callable[[], Coroutine[Any, Any, int | None]]) -> int:
        """Start everything, do `when_ready`, keep running if that returned None, then stop.

        Raises:
            Failure: something did not start, or died.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._asked_to_stop)
        try:
            with self._steps:
                await self._unless_over(self._start_all())
            code = await self._unless_over(when_ready())
            if code is None:
                await self._unless_over(asyncio.Event().wait())
        except Stopped:
            return 0
        else:
            return code or 0
        finally:
            await self._stop_all()

    def _asked_to_stop(self) -> None:
        """Stop in order; asked again, stop at once."""
        if self._stop.is_set():
            self._supervisor.kill()
        self._stop.set()

    async def _unless_over(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` unless a child dies for good or somebody asks for the end."""
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
        for log in self._home.logs.glob("*.log"):
            log.replace(log.with_suffix(".log.old"))
        await self._start_redis()
        await self._prepare_database()
        plan, engine = self._plan, self._settings.engine
        swept = log_says(self._home.log_file("control"), "control_started")
        booked = log_says(self._home.log_file("ledger"), "ledger_started")
        telling = log_says(self._home.log_file("deliverer"), "deliverer_started")
        fed = log_says(self._home.log_file("feeder"), "feeder_started")
        await asyncio.gather(
            self._start("control", swept, PROCESS_SECONDS, "picks up what a killed worker had"),
            self._start("ledger", booked, PROCESS_SECONDS, "writes down what jobs used and cost"),
            self._start("deliverer", telling, PROCESS_SECONDS, "tells accounts what happened"),
            self._start("feeder", fed, PROCESS_SECONDS, "feeds batches to the queue"),
            self._start("api", http_ok(f"{plan.url}/ready"), PROCESS_SECONDS, plan.url),
            self._start(
                "worker",
                http_ok(f"{plan.health_url}/ready"),
                MODEL_SECONDS,
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
        spec = redis_spec(plan, self._home)
        if spec is None:
            await self._find_redis(answers)
            steps.end("redis", f"the one at {plan.redis_address}")
            return
        child = await self._supervisor.start(spec)
        await wait_for(answers, REDIS_SECONDS, "redis")
        child.ready = True
        program = Path(spec.command[0]).name
        steps.end("redis", f"{program} on {plan.redis_address}, data in {self._home.data}")

    async def _prepare_database(self) -> None:
        self._steps.begin("database", "making the tables")
        redis = self._settings.redis.model_copy(update={"url": SecretStr(self._plan.redis_url)})
        settings = self._settings.model_copy(update={"redis": redis})
        self._steps.end("database", await prepare_database(settings))
        self.new_key = await ensure_dev_key(self._home, settings)

    async def _find_redis(self, answers: Question) -> None:
        try:
            await wait_for(answers, OTHER_REDIS_SECONDS, "redis")
        except Failure:
            raise Unreachable(
                f"no Redis answers at {self._plan.redis_address}",
                "PENSTOCK_REDIS__URL names it; without that, an embedded one is started",
            ) from None

    async def _start(
        self, name: str, ready: Question, seconds: float, text: str, meanwhile: str = "starting"
    ) -> None:
        self._steps.begin(name, meanwhile)
        child = await self._supervisor.start(
            process_specs(self._plan, self._home, self._settings)[name]
        )

        async def ask() -> bool:
            self._steps.note(name, meanwhile)
            return await ready()

        await wait_for(ask, seconds, name)
        child.ready = True
        self._steps.end(name, text)
        self._write_state()

    def _write_state(self) -> None:
        plan, children = self._plan, self._supervisor.children
        self._home.write_state(
            PipelineState(
                pid=os.getpid(),
                url=plan.url,
                health_url=plan.health_url,
                redis=plan.redis_address,
                model=self._settings.engine.served_name,
                children={name: child.pid for name, child in children.items()},
            )
        )

    async def _stop_all(self) -> None:
        if not self._supervisor.children:
            return
        began = time.monotonic()
        self._say("\nStopping; again Ctrl-C to stop at once.")
        await self._supervisor.stop(STOP_ORDER)
        self._home.clear_state()
        self._say(f"Stopped in {time.monotonic() - began:.1f} s.")
