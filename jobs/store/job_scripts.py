"""The table of job scripts, and the values that they share with Python.

Invariant: an error code, a status or a tier is written in Python only; the scripts get it as a
constant of the same name.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from core.errors import DeadlineExceeded, PoisonJob, RunTimeout
from core.redis.script_sources import (
    NO_FLAGS,
    READ_ONLY,
    Constant,
    Script,
    ScriptSources,
    read_scripts,
)
from jobs.blame import Apart, Blame, Occupancy
from jobs.events import EventType
from jobs.fairness import DEFAULT_OUTPUT_TOKENS, TIER_SPAN, ServiceTier
from jobs.status import Status
from jobs.store import script_args as args
from jobs.store.budget_reservations import ACCOUNT
from jobs.store.queue_control import QueueMode
from jobs.store.rate_limits import ADDRESS, RATE_PARTS
from jobs.store.script_rows import RetirementState, SubmitOutcome

FOLDER = Path(__file__).parent / "scripts"
_RETENTION: Mapping[str, type[tuple[Any, ...]]] = {"retention": args.RetentionArgs}
_BLAME: Mapping[str, type[tuple[Any, ...]]] = {"limits": args.BlameArgs, **_RETENTION}

#: Only `submit` and `tokenise` bring in more, so only they are refused at `maxmemory`. A second run
#: of `claim`, `delete` or `tokenise` would answer differently: `claim` would take more jobs.
SCRIPTS = {
    "submit": Script(args.SubmitArgs, flags=NO_FLAGS),
    "claim": Script(args.ClaimArgs, _RETENTION, repeatable=False),
    "append": Script(tables=_RETENTION),
    "finish": Script(args.FinishArgs, _RETENTION),
    "requeue": Script(args.RequeueArgs, _BLAME),
    "renew": Script(args.RenewArgs),
    "loading": Script(args.LoadingArgs),
    "sweep": Script(args.SweepArgs, _BLAME),
    "cancel": Script(args.CancelArgs, _RETENTION),
    "delete": Script(args.DeleteArgs, repeatable=False),
    "watch": Script(args.WatchArgs),
    "unwatch": Script(args.UnwatchArgs),
    "mode": Script(args.QueueArgs, flags=READ_ONLY),
    "set_mode": Script(args.SetModeArgs),
    "end_waiting": Script(args.EndWaitingArgs, _RETENTION),
    "retire": Script(args.RetireArgs),
    "restore": Script(args.QueueArgs),
    "observe": Script(args.ObserveArgs, flags=READ_ONLY),
    "position": Script(args.PositionArgs, flags=READ_ONLY),
    "ended": Script(flags=READ_ONLY),
    "finished": Script(args.FinishedArgs, flags=READ_ONLY),
    "archive": Script(args.ArchiveArgs, _RETENTION),
    "forget_consumers": Script(args.ForgetConsumersArgs),
    "settle": Script(args.SettleArgs),
    "sweep_reservations": Script(args.SweepReservationsArgs),
    "lock": Script(args.LockArgs),
    "lock_sweeper": Script(args.LockSweeperArgs),
    "purge": Script(args.PurgeArgs),
    "tokenise": Script(args.TokeniseArgs, flags=NO_FLAGS, repeatable=False),
}

#: What the scripts know of our enums, under these names.
CONSTANTS: Mapping[str, Constant] = {
    **{status.name: status.value for status in Status},
    "TERMINAL": tuple(status.value for status in Status if status.is_terminal),
    **{f"MODE_{mode.name}": mode.value for mode in QueueMode},
    **{outcome.name: outcome.value for outcome in SubmitOutcome},
    **{state.name: state.value for state in RetirementState},
    "EVENT_STARTED": EventType.STARTED.value,
    "EVENT_FINISHED": EventType.FINISHED.value,
    "DEADLINE_EXCEEDED": DeadlineExceeded.code,
    "RUN_TIMEOUT": RunTimeout.code,
    "POISON_JOB": PoisonJob.code,
    **{f"APART_{apart.name}": apart.value for apart in Apart if apart},
    **{f"BLAME_{blame.name}": blame.value for blame in Blame if blame},
    **{f"OCCUPANCY_{occupancy.name}": occupancy.value for occupancy in Occupancy},
    "TIERS": len(ServiceTier),
    "TIER_SPAN": int(TIER_SPAN),
    "DEFAULT_OUTPUT_TOKENS": DEFAULT_OUTPUT_TOKENS,
    "ACCOUNT": ACCOUNT,
    "ADDRESS": ADDRESS,
    "RATE_PARTS": RATE_PARTS,
}


@cache
def job_scripts(ticket: str) -> ScriptSources:
    """Return every job script.

    Args:
        ticket: A Celery message in which `@TAG@` and `@QUEUE@` are to be filled in.
    """
    library = f"{_ticket_function(ticket)}\n{(FOLDER / 'lib.lua').read_text()}"
    return read_scripts(FOLDER, SCRIPTS, library=library, constants=CONSTANTS)


def _ticket_function(template: str) -> str:
    """Return Lua that fills in a ticket: joined pieces, as patterns cost half a submit."""
    names = {"@TAG@": "tag", "@QUEUE@": "queue"}
    pieces = re.split("(@TAG@|@QUEUE@)", template)
    joined = " .. ".join(names.get(piece) or f"[==[{piece}]==]" for piece in pieces)
    return f"local function ticket(tag, queue) return {joined} end"
