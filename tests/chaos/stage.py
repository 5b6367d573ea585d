"""The pipeline under test, an orchestrator that restarts what ends, and the faults' execution."""

import asyncio
import contextlib
import signal
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import redis

from core.redis.keys import Keys
from core.runtime.child_process import free_port
from core.settings.tree import Settings
from tests.chaos.plan import Fault
from tests.support.processes import Pipeline, PipelineProcess
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL
from workers.engines.simulated import EXIT_STATUS

WATCH_SECONDS = 0.25
#: A process that fails this many liveness probes in a row is killed, as an orchestrator does.
PROBES = 6
PROBE_SECONDS = 2.0
GARBAGE = (b"\x00\xff\x7fgarbage", b"{}", b'{"body": 1}', b"[1,2", b"null", b"")
#: How the poison jobs of the plan end a worker: by its status, or by what it logs.
STOPS = {"exit": EXIT_STATUS, "segv": -signal.SIGSEGV, "die": None, "hang": None}
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "quit": signal.SIGQUIT}


class Stage:
    """The running processes, how many of each kind should run, and the faults so far."""

    def __init__(
        self,
        settings: Settings,
        server: RedisServer,
        proxy: Proxy,
        directory: Path,
        sizes: dict[str, int],
    ) -> None:
        self.pipeline = Pipeline(settings, directory)
        self.server = server
        self.proxy = proxy
        self.sizes = sizes
        self.faults: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.deaf: list[str] = []
        self.slow_exits = 0
        self.poison: Callable[[str, int], None] | None = None
        self.poisoned = 0
        self.rss: dict[str, int] = {}
        self._keys = Keys(settings.redis.prefix)
        self._direct: Any = redis.Redis(port=server.port, protocol=2)
        self._doomed: set[int] = set()
        self._frozen: set[int] = set()
        self._failures: Counter[int] = Counter()
        self._after: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._server_lock = asyncio.Lock()

    # --- processes --------------------------------------------------------------------

    def alive(self, name: str) -> list[PipelineProcess]:
        """Return the processes of a kind that run."""
        return [
            process
            for process in self.pipeline.processes
            if process.name == name and process.running
        ]

    def api_port(self) -> int:
        """Return a live API process's port, one after the other."""
        alive = self.alive("api")
        if not alive:
            raise ConnectionError("no API process")
        self.starts["turn"] += 1
        return alive[self.starts["turn"] % len(alive)].settings.api.port

    async def start(self) -> None:
        """Start everything, wait until it is ready, and keep it so."""
        for name, size in self.sizes.items():
            for _ in range(size):
                self._start(name)
        for process in (*self.alive("worker"), *self.alive("api")):
            await asyncio.to_thread(process.wait_until_ready)
        self._tasks = [
            asyncio.create_task(self._keep_running()),
            asyncio.create_task(self._probe()),
        ]

    def _start(self, name: str) -> None:
        self.starts[name] += 1
        match name:
            case "worker":
                self.pipeline.begin_worker()
            case "control":
                self.pipeline.control()
            case "api":
                self.pipeline.begin_api(free_port())

    async def _keep_running(self) -> None:
        while True:
            for name, size in self.sizes.items():
                for _ in range(size - len(self.alive(name))):
                    self._start(name)
            for process in self.pipeline.processes:
                code, pid = process.exit_code, process.pid
                if code is None:
                    with contextlib.suppress(psutil.Error):
                        rss = psutil.Process(pid).memory_info().rss
                        self.rss[process.name] = max(self.rss.get(process.name, 0), rss)
                elif pid not in self._doomed:
                    self._doomed.add(pid)
                    if process.name == "worker" and self._was_poisoned(process):
                        self.poisoned += 1
                        continue
                    tail = process.output()[-1500:]
                    self.unexpected.append(f"{process.name} {pid} ended with {code}:\n{tail}")
            await asyncio.sleep(WATCH_SECONDS)

    def _was_poisoned(self, worker: PipelineProcess) -> bool:
        """Whether a poison job of the plan explains how a worker ended."""
        struck = {kind for kind in STOPS if self.faults[f"poison-{kind}"]}
        if any(worker.exit_code == STOPS[kind] for kind in struck & {"exit", "segv"}):
            return True
        died, log = bool(struck & {"die", "hang"}), worker.output()
        return died and ("scripted fault" in log or "no engine step" in log)

    async def _probe(self) -> None:
        """Restart a worker whose liveness probe keeps failing."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            for worker in self.alive("worker"):
                pid = worker.pid
                if pid in self._frozen or await asyncio.to_thread(_lives, worker):
                    self._failures.pop(pid, None)
                    continue
                self._failures[pid] += 1
                if self._failures[pid] >= PROBES:
                    self.deaf.append(f"worker {pid}:\n{worker.output()[-1500:]}")
                    self._doomed.add(pid)
                    worker.signal(signal.SIGKILL)

    # --- faults -----------------------------------------------------------------------

    async def strike(self, fault: Fault) -> bool:
        """Inject one fault; its end runs in the background. Returns False if it found no victim."""
        subject, _, verb = fault.kind.partition("-")
        if subject == "poison":
            assert self.poison is not None
            self.poison(verb, fault.victim)
        struck = subject == "poison" or await self._strike(subject, verb, fault)
        self.faults[fault.kind] += struck
        return struck

    async def _strike(self, subject: str, verb: str, fault: Fault) -> bool:
        match subject:
            case "net":
                return self._hurt_network(verb, fault)
            case "ticket":
                with contextlib.suppress(redis.RedisError, OSError):
                    return await asyncio.to_thread(self._hurt_tickets, verb, fault)
                return False
            case "redis":
                return self._hurt_redis(verb, fault)
        alive = [p for p in self.alive(subject) if p.pid not in self._frozen]
        if not alive:
            return False
        victim = alive[fault.victim % len(alive)]
        if verb == "freeze":
            self._freeze(victim, fault.seconds)
        else:
            self._doomed.add(victim.pid)
            victim.signal(SIGNALS[verb])
        return True

    def _later(self, seconds: float, then: Callable[[], Any]) -> None:
        async def waiting() -> None:
            try:
                await asyncio.sleep(seconds)
            finally:
                then()

        task = asyncio.create_task(waiting())
        self._after.add(task)
        task.add_done_callback(self._after.discard)

    def _freeze(self, victim: PipelineProcess, seconds: float) -> None:
        pid = victim.pid
        self._frozen.add(pid)
        victim.signal(signal.SIGSTOP)

        def thaw() -> None:
            with contextlib.suppress(ProcessLookupError):
                victim.signal(signal.SIGCONT)
            self._frozen.discard(pid)

        self._later(seconds, thaw)

    def _hurt_network(self, verb: str, fault: Fault) -> bool:
        match verb:
            case "reset":
                return self.proxy.reset(max(0.1, fault.share)) > 0
            case "half-close":
                return self.proxy.half_close() > 0
            case "darken":
                return self.proxy.darken(fault.share / 2) > 0
            case "black-hole":
                self.proxy.black_hole(True)
                self._later(fault.seconds, lambda: self.proxy.black_hole(False))
            case "refuse":
                self.proxy.refuse(True)
                self._later(fault.seconds, lambda: self.proxy.refuse(False))
            case "latency":
                self.proxy.delay(0.002 + 0.03 * fault.share)
                self._later(fault.seconds, lambda: self.proxy.delay(0.0))
        return True

    def _hurt_tickets(self, verb: str, fault: Fault) -> bool:
        queue, count = self._keys.tickets(MODEL), 1 + round(30 * fault.share)
        match verb:
            case "lose":
                return bool(self._direct.rpop(queue, count))
            case "double":
                tickets = self._direct.lrange(queue, 0, count)
                return bool(tickets and self._direct.lpush(queue, *tickets))
        self._direct.lpush(queue, *(GARBAGE[i % len(GARBAGE)] for i in range(1 + count // 6)))
        return True

    def _hurt_redis(self, verb: str, fault: Fault) -> bool:
        if self._server_lock.locked():
            return False

        async def out() -> None:
            async with self._server_lock:
                number = signal.SIGKILL if verb == "kill" else signal.SIGSTOP
                self.server.signal(number)
                await asyncio.sleep(fault.seconds)
                await asyncio.to_thread(self.server.revive)

        task = asyncio.create_task(out())
        self._after.add(task)
        task.add_done_callback(self._after.discard)
        return True

    def crashes(self) -> list[str]:
        """Return the tracebacks that processes logged: unexpected errors."""
        found: Counter[str] = Counter()
        for process in self.pipeline.processes:
            lines = process.output().splitlines()
            for at, line in enumerate(lines):
                if "Couldn't ack" in line:
                    continue  # a lost acknowledgement leaves a surplus ticket
                if "timeout graceful shutdown exceeded" in line:
                    self.slow_exits += 1
                    found[f"{process.name}: its server had to cut a stream to close"] += 1
                    continue
                if "Traceback" in line or '"exception"' in line:
                    shown = "\n".join(lines[at : at + 40]) if line.startswith("Trace") else line
                    found[f"{process.name}: ...{shown[-3500:]}"] += 1
        return [f"{count} x {text}" for text, count in found.most_common()]

    # --- the end ----------------------------------------------------------------------

    async def heal(self) -> None:
        """End all faults that still last."""
        await asyncio.gather(*self._after)
        self.proxy.black_hole(False)
        self.proxy.refuse(False)
        self.proxy.delay(0.0)

    async def stop(self) -> None:
        """Stop everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._direct.close()
        await asyncio.to_thread(self.pipeline.stop)


def _lives(worker: PipelineProcess) -> bool:
    """Ask a worker's liveness probe; one that is still starting counts as alive."""
    url = f"http://127.0.0.1:{worker.settings.worker.health_port}/health"
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return True
