"""One `penstock up`: lock the folder, start everything, say how to use it, run the demo.

Invariant: the development key is shown once, when it is made; afterwards it stands only in
`.penstock/dev-key`, which nobody else can read.
"""

import asyncio
import time

from cli.connect.api_client import Client
from cli.connect.state_dir import StateDir
from cli.local.demo import print_next, run_demo
from cli.local.demo_bill import bill_demo
from cli.local.pipeline import Pipeline
from cli.local.plan import Plan, make_plan
from cli.local.steps import Steps
from cli.terminal.failures import Failure
from cli.terminal.output import out, print_failure
from core.settings.tree import Settings


class LocalRun:
    """The pipeline of one directory; `leave` ends it after the demo."""

    def __init__(self, home: StateDir, settings: Settings, *, demo: bool, leave: bool) -> None:
        self._home = home
        self._settings = settings
        self._demo = demo
        self._leave = leave
        self._began = time.monotonic()
        self._plan: Plan
        self._pipeline: Pipeline

    async def run(self) -> int:
        """Run until the demo is over or somebody asks for the end; returns the exit code.

        Raises:
            Failure: it could not start, or a part of it died.
        """
        lock = self._home.lock()
        self._home.clear_state()
        self._plan = make_plan(self._settings)
        self._pipeline = Pipeline(self._home, self._settings, self._plan, Steps(out), lock)
        return await self._pipeline.run(self._when_ready)

    async def _when_ready(self) -> int | None:
        model = self._settings.engine.served_name
        seconds = time.monotonic() - self._began
        out.print(f"\n[bold green]Ready[/] after {seconds:.0f} s: [bold]{self._plan.url}[/]")
        if self._pipeline.new_key:
            text = f"Development key, shown this once: {self._pipeline.new_key}"
            out.print(text, soft_wrap=True)
        out.print(f"[dim]The key is in {self._home.key_file}, logs are in {self._home.logs}.[/]\n")
        client = Client(self._plan.url, self._home.read_key() or "")
        if self._demo:
            await self._demonstrate(client, model)
        if self._leave:
            return 0
        print_next(client, model, self._home, out)
        out.print("Ctrl-C stops everything; jobs and results are kept.")
        return None

    async def _demonstrate(self, client: Client, model: str) -> None:
        try:
            jobs = await asyncio.to_thread(run_demo, client, model, out)
            await bill_demo(self._settings, self._home.bills, jobs, out)
        except Failure as failure:
            if self._leave:
                raise
            print_failure(failure)
        finally:
            client.close()
