"""Which output the step writer sends immediately, and which it coalesces."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.settings import StreamSettings
from jobs.store.transitions import Appended, ClaimedJob, LogAppend
from tests.support.waiting import eventually
from workers.attempt import Attempt
from workers.engines.base import AcceptedGeneration, Generation, Output
from workers.step_writer import StepWriter

PAUSE = 30.0
SETTINGS = StreamSettings(flush_seconds=PAUSE, events_per_second=1, unwatched_flush_seconds=PAUSE)


class Log:
    """Stands in the place of the store's append, and remembers what was written."""

    def __init__(self) -> None:
        self.calls: list[dict[str, int]] = []

    async def append(self, steps: list[LogAppend]) -> list[Appended]:
        self.calls.append({step.id: len(step.events) for step in steps})
        return ["finished" if step.ending else "watched" for step in steps]


def running(job_id: str, *, watched: bool = True) -> Attempt:
    claimed: Any = ClaimedJob(
        id=job_id,
        fence=1,
        attempt=1,
        spec=None,  # not looked at here
        seq=1,
        output_tokens=0,
        input_tokens=None,
        watched=watched,
        run_deadline=0,
        now=0,
        account="a",
        created=0,
        queued=0,
    )
    generation = Generation(job_id, "/v1/completions", {})
    run = Attempt(claimed, None, generation, 0.0, 1, 0, watched)
    run.accept(AcceptedGeneration(input_tokens=3, choices=1, restarted=False))
    return run


@pytest.fixture
async def log() -> Log:
    return Log()


@pytest.fixture
async def writer(log: Log) -> AsyncIterator[StepWriter]:
    def answered(run: Attempt, answer: Appended) -> None:
        run.over = answer == "finished"

    made = StepWriter(log, SETTINGS, "q", answered)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()


def step(
    writer: StepWriter, runs: list[Attempt], text: str = "x", reason: str | None = None
) -> None:
    for run in runs:
        run.take(Output(run.id, 0, text, (7,), finish_reason=reason))
        writer.changed(run)


async def begun(writer: StepWriter, log: Log, *runs: Attempt) -> None:
    """Write first tokens, then one step together, after which the pause begins."""
    step(writer, list(runs))
    await eventually(lambda: answer(all(run.begun for run in runs)))
    step(writer, list(runs))
    await eventually(lambda: answer(not any(run.pending for run in runs)))
    log.calls.clear()


async def answer(value: bool) -> bool:
    return value


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_first_tokens_go_at_once_although_others_are_held(
    writer: StepWriter, log: Log
) -> None:
    old = [running("a"), running("b")]
    await begun(writer, log, *old)
    step(writer, old)
    new = running("c")
    step(writer, [new])
    await eventually(lambda: answer(new.begun))
    assert log.calls == [{"c": 1}]


async def test_steps_within_the_pause_go_together_as_one_event_each(
    writer: StepWriter, log: Log
) -> None:
    runs = [running("a"), running("b")]
    await begun(writer, log, *runs)
    for _ in range(5):
        step(writer, runs)
        await turns()
    assert log.calls == []
    writer._watched._open_at = 0.0  # the pause is over
    step(writer, runs)
    await eventually(lambda: answer(bool(log.calls)))
    assert log.calls == [{"a": 1, "b": 1}]
    assert not any(run.pending for run in runs)


async def test_the_end_goes_at_once_with_all_that_was_held(writer: StepWriter, log: Log) -> None:
    runs = [running("a"), running("b")]
    await begun(writer, log, *runs)
    step(writer, runs)
    step(writer, runs[:1], "end", "stop")
    await eventually(lambda: answer(runs[0].over))
    assert log.calls == [{"a": 1}]
    assert runs[1].pending


async def test_a_job_alone_is_never_held(writer: StepWriter, log: Log) -> None:
    run = running("a")
    await begun(writer, log, run)
    for number in range(1, 4):
        step(writer, [run])
        await eventually(lambda number=number: answer(len(log.calls) == number))


async def test_what_is_held_goes_without_a_further_step(log: Log) -> None:
    quick = SETTINGS.model_copy(update={"flush_seconds": 0.3})
    writer = StepWriter(log, quick, "q", lambda *_: None)
    task = asyncio.create_task(writer.run())
    runs = [running("a"), running("b")]
    await begun(writer, log, *runs)
    step(writer, runs)
    await turns()
    assert log.calls == []
    await eventually(lambda: answer(log.calls == [{"a": 1, "b": 1}]))
    task.cancel()


async def test_a_job_nobody_watches_is_written_when_enough_has_gathered(
    writer: StepWriter, log: Log
) -> None:
    run = running("a", watched=False)
    step(writer, [run])
    await eventually(lambda: answer(run.begun))
    run.watched = False
    step(writer, [run])
    run.watched = False
    await eventually(lambda: answer(not run.pending))
    log.calls.clear()
    for _ in range(SETTINGS.unwatched_flush_tokens - 1):
        step(writer, [run])
        await turns(2)
    assert log.calls == []
    step(writer, [run])
    await eventually(lambda: answer(bool(log.calls)))
    assert log.calls == [{"a": 1}]
