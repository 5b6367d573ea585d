"""`penstock doctor`: checks whether this machine, its settings and its servers can run it all.

Exit codes: 0 there is no problem, at most warnings; 1 there is a problem.
"""

from typing import Annotated

import typer

from cli.checks.findings import Check, Level, fine, print_findings, problem, run_checks
from cli.checks.machine import ask_gpu
from cli.checks.start import machine_checks, quick_checks
from cli.connect.settings import settings_of
from cli.connect.state_dir import PipelineState, StateDir
from cli.terminal.failures import UsageError
from cli.terminal.options import Json
from cli.terminal.output import out, print_json
from core.settings.invalid_settings import InvalidSettings
from core.settings.tree import Settings, get_settings

#: Checks for a container of any process: it has no engine, and its own port is in use.
EVERYWHERE = ("settings", "python", "open files", "secret", "redis", "sql")

app = typer.Typer(add_completion=False)


@app.command()
def doctor(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Skip the servers and the GPU driver; takes under a second."),
    ] = False,
    servers: Annotated[
        bool, typer.Option("--servers", help="Skip what only `penstock up` or a worker needs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the machine, the settings and the servers; print each result and what to do.

    Exit code 0: there is no problem, at most warnings. 1: there is a problem.
    """
    if quick and servers:
        raise UsageError("--quick skips the servers, so it cannot be combined with --servers")
    checks = _checks(quick=quick)
    findings = run_checks(one for one in checks if not servers or one.name in EVERYWHERE)
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    if as_json:
        shown = [finding.as_json() for finding in findings]
        print_json(
            {"ok": not problems, "problems": problems, "warnings": warnings, "checks": shown}
        )
    else:
        print_findings(findings, out)
        out.print(f"\n{_summary(problems, warnings)}", style="bold")
    raise typer.Exit(1 if problems else 0)


def _summary(problems: int, warnings: int) -> str:
    if not problems and not warnings:
        return "Everything is fine."
    counts = ((problems, "problem"), (warnings, "warning"))
    words = [f"{count} {word}{'s' * (count > 1)}" for count, word in counts if count]
    return f"{', '.join(words)}." + ("" if problems else " It can run.")


def _checks(*, quick: bool) -> list[Check]:
    try:
        settings = get_settings()
    except InvalidSettings as error:
        wrong = problem("settings", "the settings are wrong", *error.lines)
        return [Check("settings", lambda: wrong), *machine_checks()]
    running = StateDir().running()
    read = Check("settings", lambda: fine("settings", _sources(settings)))
    checks = [read, *quick_checks(settings, running)]
    return checks if quick else _with_servers(checks, settings, running)


def _sources(settings: Settings) -> str:
    count = sum(len(group) for group in settings.model_dump(exclude_unset=True).values())
    return f"valid; {count} differ from .env.example" if count else "valid; all are the defaults"


def _with_servers(
    checks: list[Check], settings: Settings, running: PipelineState | None
) -> list[Check]:
    """Add the checks that ask Redis, SQL and the GPU driver."""
    from cli.checks.servers import check_database, check_redis  # noqa: PLC0415 - the import takes half a second

    redis, database = settings_of(settings, running).redis, settings.database
    asked = {"gpu": Check("gpu", lambda: ask_gpu(settings.engine))}
    if running is not None or "url" in settings.redis.model_fields_set:
        asked["redis"] = Check("redis", lambda: check_redis(redis))
    found = [asked.get(check.name, check) for check in checks]
    return [*found, Check("sql", lambda: check_database(database))]
