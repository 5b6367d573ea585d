"""The running attempts of a worker: how they are found, their deadlines, and when none is left."""

import asyncio
from typing import Any

import orjson

from jobs.job import JobSpec
from jobs.store.transitions import ClaimedJob
from tests.support.waiting import eventually
from workers.attempt import Attempt
from workers.engines.base import AcceptedGeneration, Output
from workers.running_attempts import RunningAttempts


class Ticket:
    def done(self) -> None:
        """Nothing to acknowledge here."""


def attempt(job_id: str, *, milliseconds: int = 60_000) -> Attempt:
    claimed: Any = ClaimedJob(
        id=job_id,
        fence=1,
        attempt=1,
        spec=JobSpec("/v1/completions", {}),
        seq=1,
        output_tokens=0,
        input_tokens=None,
        watched=False,
        run_deadline=1_000 + milliseconds,
        now=1_000,
        account="a",
        created=0,
        queued=0,
    )
    return Attempt.begin(claimed, Ticket())


async def test_an_attempt_is_found_by_job_and_by_generation_until_it_is_removed() -> None:
    running = RunningAttempts()
    one = attempt("one")
    running.add(one, lambda _: None)

    assert running.of_job("one") is one
    assert running.of_generation("one.1") is one
    running.remove(one)
    assert running.of_job("one") is None
    assert running.of_generation("one.1") is None
    assert len(running) == 0


async def test_a_deadline_is_reported_unless_the_attempt_was_removed() -> None:
    running = RunningAttempts()
    late: list[str] = []
    removed, kept = attempt("removed", milliseconds=10), attempt("kept", milliseconds=20)
    running.add(removed, lambda found: late.append(found.id))
    running.add(kept, lambda found: late.append(found.id))
    running.remove(removed)

    async def reported() -> bool:
        return bool(late)

    await eventually(reported)
    assert late == ["kept"]


async def test_waiting_ends_when_the_last_attempt_is_removed() -> None:
    running = RunningAttempts()
    first, second = attempt("first"), attempt("second")
    for one in (first, second):
        running.add(one, lambda _: None)
    waiting = asyncio.create_task(running.wait_until_empty())
    running.remove(first)
    await asyncio.sleep(0)
    assert not waiting.done()
    running.remove(second)

    await waiting


def test_the_cache_is_counted_once_for_each_prompt_and_the_prompt_said_once() -> None:
    one = attempt("one")
    one.accept(AcceptedGeneration(input_tokens=9, choices=4, prompts=2))
    for index, cached in enumerate((3, 3, 2, 1)):
        one.take(Output("one.1", index, [7], "a", cached_input_tokens=cached))
    one.take(Output("one.1", 0, [8], "b"))

    append = one.next_append()

    assert (append.cached_input_tokens, append.input_tokens, append.output_tokens) == (5, 9, 5)
    said = [orjson.loads(data).get("input_tokens") for _, data in append.events]
    assert said == [9, None, None, None, None]


def test_an_embedding_uses_the_inputs_whose_vectors_are_delivered_and_the_cache_of_all() -> None:
    one = attempt("one")
    one.accept(AcceptedGeneration(9, choices=3, prompts=3, input_lengths=(4, 3, 2)))
    for index, cached in ((0, 3), (2, 1)):
        output = Output("one.1", index, (), "", {"embedding": ""}, finish_reason="stop")
        output.cached_input_tokens = cached
        one.take(output)

    append = one.next_append()

    assert (append.vectors, append.input_tokens, append.cached_input_tokens) == (2, 6, 4)
    assert append.ending is None
