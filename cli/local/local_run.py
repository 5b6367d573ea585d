"""One `penstock up`: locks the state directory, starts the pipeline and runs the demo.

Invariant: the development key is shown once, when it is created; after that it is only in
`.penstock/dev-key`, which other users cannot read.
"""

import asyncio
import time

from cli.checks.findings import not_fine, print_findings, refuse, run_checks
from cli.checks.start import quick_checks
from cli.connect.api_client import Client
from cli.connect.state_dir import StateDir
from cli.local.demo import print_next, run_demo
from cli.local.demo_bill import bill_demo
from cli.local.pipeline import Pipeline
from cli.local.plan import Plan, make_plan
from cli.local.steps import Steps
from cli.terminal.failures import Failure
from cli.terminal.output import out, print_failure
from cli.terminal.plain_console import styled
from core.settings.tree import Settings


class LocalRun:
    """The pipeline of one directory.

    Args:
        state_dir: Its state directory.
        settings: Its settings.
        demo: Whether to run the demo when it is ready.
        leave: Whether to stop it after that.
    """

    def __init__(self, state_dir: StateDir, settings: Settings, *, demo: bool, leave: bool) -> None:
        self._state_dir = state_dir
        self._settings = settings
        self._demo = demo
        self._leave = leave
        self._began = time.monotonic()
        self._plan: Plan
        self._pipeline: Pipeline

    async def run(self) -> int:
        """Run until the demo is over or a signal comes; return the exit code.

        Raises:
            Failure: it could not start, or a process died and cannot be restarted.
        """
        lock = self._state_dir.lock()
        self._state_dir.close_to_others()
        self._state_dir.clear_state()
        self._check()
        self._plan = make_plan(self._settings, self._state_dir)
        self._pipeline = Pipeline(self._state_dir, self._settings, self._plan, Steps(out), lock)
        return await self._pipeline.run(self._when_ready)

    def _check(self) -> None:
        """Run the quick checks of `penstock doctor`; refuse problems and print warnings."""
        findings = run_checks(quick_checks(self._settings))
        refuse(findings)
        print_findings(not_fine(findings), out)

    async def _when_ready(self) -> int | None:
        model = self._settings.engine.served_name
        seconds = time.monotonic() - self._began
        after = f" after {seconds:.0f} s: "
        out.print(styled(("\nReady", "bold green"), after, (self._plan.url, "bold")))
        if self._pipeline.new_key:
            text = f"Development key, shown this once: {self._pipeline.new_key}"
            out.print(text, soft_wrap=True)
        key_file, logs = self._state_dir.key_file, self._state_dir.logs
        out.print(f"The key is in {key_file}, logs are in {logs}.\n", style="dim")
        client = Client(self._plan.url, self._state_dir.read_key() or "")
        if self._demo:
            await self._demonstrate(client, model)
        if self._leave:
            return 0
        print_next(client, model, self._state_dir, out)
        out.print("Ctrl-C stops everything; jobs and results are kept.")
        return None

    async def _demonstrate(self, client: Client, model: str) -> None:
        try:
            jobs = await asyncio.to_thread(run_demo, client, model, out)
            await bill_demo(self._settings, self._state_dir.bills, jobs, out)
        except Failure as failure:
            if self._leave:
                raise
            print_failure(failure)
        finally:
            client.close()
