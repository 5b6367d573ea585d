"""The guard of grammars: limits, turns, shared verdicts, and helpers that misbehave."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import psutil
import pytest
import pytest_asyncio
import uvloop

from core.errors import EngineDead, EngineError, InvalidJob
from core.settings.engine import EngineSettings
from tests.support.waiting import eventually
from workers.engines.helpers import grammar_guard
from workers.engines.helpers.grammar_guard import (
    GrammarGuard,
    GrammarSource,
    GrammarVerdict,
    VerdictCache,
)

COMMAND = (sys.executable, "-m", "tests.support.grammar_program")
Make = Callable[..., GrammarGuard]


def source(text: str) -> GrammarSource:
    return GrammarSource("regex", text, True, "structured_outputs")


def guard_of(settings: EngineSettings, info: str = "{}") -> GrammarGuard:
    return GrammarGuard(settings, info, progress=lambda: None, command=COMMAND)


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    """Make guards whose helpers run the stand-in program; close them afterwards."""
    guards: list[GrammarGuard] = []

    def create(seconds: float = 60.0, info: str = "{}") -> GrammarGuard:
        settings = EngineSettings(grammar_seconds=seconds)
        guards.append(guard_of(settings, info))
        return guards[-1]

    yield create
    for guard in guards:
        await guard.close()


def forks(guard: GrammarGuard) -> list[psutil.Process]:
    """Return what the helpers have forked for the grammars under way."""
    return [fork for pid in guard.pool.pids for fork in psutil.Process(pid).children()]


def ended(processes: list[psutil.Process]) -> Callable[[], Awaitable[bool]]:
    """Return a check whether all of these processes have ended."""

    async def check() -> bool:
        return not any(process.is_running() for process in processes)

    return check


def in_helper(guard: GrammarGuard) -> Callable[[], Awaitable[bool]]:
    """Return a check whether a helper works on a grammar."""

    async def check() -> bool:
        return bool(guard.pool.running and forks(guard))

    return check


async def test_a_good_grammar_passes_and_a_bad_one_names_its_field(make: Make) -> None:
    guard = make()

    assert await guard.check("1", "a", source("good"))
    with pytest.raises(InvalidJob, match="the grammar is invalid") as caught:
        await guard.check("2", "a", source("bad"))
    assert caught.value.param == "structured_outputs"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("hang", "takes more than 0.2 s to compile"),
        ("spin", "takes more than 0.2 s to compile"),
        ("crash", "could not be compiled"),
        ("flood", "is larger than"),
    ],
)
async def test_a_grammar_that_misbehaves_is_stopped_and_its_helper_remains(
    make: Make, text: str, answer: str
) -> None:
    guard = make(seconds=0.2)
    assert await guard.check("1", "a", source("good"))
    before = guard.pool.pids
    with pytest.raises(InvalidJob, match=answer):
        await guard.check("2", "a", source(text))

    assert forks(guard) == []
    assert await guard.check("3", "a", source("another good"))
    assert guard.pool.pids == before


async def test_a_helper_killed_from_outside_costs_no_grammar(make: Make) -> None:
    guard = make()
    assert await guard.check("1", "a", source("good"))
    (before,) = guard.pool.pids
    os.kill(before, signal.SIGKILL)

    assert await guard.check("2", "a", source("another good"))
    assert guard.pool.pids != [before]


async def test_a_helper_killed_twice_by_one_grammar_is_the_servers_fault(make: Make) -> None:
    guard = make()
    with pytest.raises(EngineError, match="the grammar helper was killed"):
        await guard.check("1", "a", source("kill program"))

    assert await guard.check("2", "a", source("good"))


async def test_an_error_of_the_program_itself_is_the_servers_fault(make: Make) -> None:
    guard = make()
    with pytest.raises(EngineError, match="the grammar helper failed"):
        await guard.check("1", "a", source("raise"))

    assert await guard.check("2", "a", source("good"))


async def test_a_verdict_is_remembered_without_a_helper(make: Make) -> None:
    guard = make()
    assert await guard.check("1", "a", source("good"))
    with pytest.raises(InvalidJob):
        await guard.check("2", "a", source("bad"))
    await guard.close()  # no helper is left

    assert await guard.check("3", "a", source("good"))
    with pytest.raises(InvalidJob):
        await guard.check("4", "a", source("bad"))


async def test_requests_with_the_same_grammar_share_one_compilation(make: Make) -> None:
    guard = make()
    checks = [guard.check(str(number), "a", source("good")) for number in range(5)]
    tasks = [asyncio.create_task(check) for check in checks]
    await asyncio.sleep(0)

    assert guard.waiting == 1
    assert await asyncio.gather(*tasks) == [True] * 5


async def test_accounts_take_turns(make: Make) -> None:
    guard = make(seconds=60)
    first = asyncio.create_task(guard.check("0", "flood", source("hang")))
    await eventually(in_helper(guard))
    order: list[str] = []

    async def check(name: str, account: str) -> None:
        await guard.check(name, account, source(name))
        order.append(name)

    tasks = [asyncio.create_task(check(f"many {n}", "flood")) for n in range(3)]
    tasks.append(asyncio.create_task(check("one", "small")))
    await asyncio.sleep(0)
    guard.abandon("0")
    await asyncio.gather(*tasks)

    assert await first is False
    assert order.index("one") <= 1


async def test_an_abandoned_grammar_is_stopped_if_no_other_request_waits(make: Make) -> None:
    guard = make()
    tasks = [asyncio.create_task(guard.check(n, "a", source("hang"))) for n in ("1", "2")]
    await eventually(in_helper(guard))
    (before,), pids = forks(guard), guard.pool.pids
    guard.abandon("1")
    assert await tasks[0] is False
    assert before.is_running()

    guard.abandon("2")
    assert await tasks[1] is False
    assert await guard.check("3", "a", source("good"))
    assert not before.is_running()
    assert guard.pool.pids == pids


async def test_a_cancelled_wait_stops_the_compilation(make: Make) -> None:
    guard = make()
    task = asyncio.create_task(guard.check("1", "a", source("hang")))
    await eventually(in_helper(guard))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert guard.waiting == 0
    assert await guard.check("2", "a", source("good"))


async def test_waiting_requests_end_when_the_guard_closes(make: Make) -> None:
    guard = make()
    tasks = [asyncio.create_task(guard.check(t, "a", source(t))) for t in ("hang", "good")]
    await eventually(in_helper(guard))
    before = [*forks(guard), *map(psutil.Process, guard.pool.pids)]
    await guard.close()

    for task in tasks:
        with pytest.raises(EngineDead):
            await task
    await eventually(ended(before))


async def test_a_helper_that_does_not_start_is_the_servers_fault(make: Make) -> None:
    with pytest.raises(EngineError, match="this tokeniser is broken"):
        await make(info="broken").check("1", "a", source("good"))


def test_helpers_run_on_the_loop_of_the_worker_too() -> None:
    async def verdicts() -> tuple[bool, str]:
        guard = guard_of(EngineSettings(grammar_seconds=60.0))
        try:
            good = await guard.check("1", "a", source("good"))
            with pytest.raises(InvalidJob) as crashed:
                await guard.check("2", "a", source("crash"))
        finally:
            await guard.close()
        return good, crashed.value.message

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        good, crashed = runner.run(verdicts())

    assert good
    assert "could not be compiled" in crashed


def test_an_account_cannot_push_out_the_verdicts_of_another() -> None:
    cache = VerdictCache(2)
    cache.put(("small", b"1"), GrammarVerdict(""))
    for number in range(10):
        cache.put(("large", bytes([number])), GrammarVerdict(""))

    assert cache.get(("small", b"1")) == GrammarVerdict("")
    assert [n for n in range(10) if cache.get(("large", bytes([n])))] == [8, 9]


def test_a_refusal_is_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = VerdictCache(2)
    cache.put(("a", b"bad"), GrammarVerdict("time"))
    cache.put(("a", b"good"), GrammarVerdict(""))
    monkeypatch.setattr(grammar_guard, "REFUSED_SECONDS", -1.0)

    assert cache.get(("a", b"bad")) is None
    assert cache.get(("a", b"good")) is not None
