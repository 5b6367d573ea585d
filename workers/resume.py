"""Resuming: what earlier attempts logged becomes the state from which the engine continues.

Invariant: logged tokens are read from the job's log alone, so an attempt on any worker continues
with exactly the tokens that clients may have seen. What other weights generated is never continued:
the attempt then starts from nothing, and the log says so.
"""

import asyncio
from typing import Any

from core.errors import StoreUnavailable
from jobs.result import fold
from jobs.store.job_store import JobStore
from workers.attempt import Attempt
from workers.engines.base import Generation, Resume

RETRY_SECONDS = 0.2


async def resume_from_log(store: JobStore, attempt: Attempt) -> None:
    """Give an attempt's generation the tokens that earlier attempts logged.

    Args:
        store: Where the job's log is.
        attempt: Its `generation` and `finished_choices` are replaced.

    Raises:
        StoreUnavailable: Redis did not answer and the attempt was released meanwhile.
    """
    result = fold(await _read_log(store, attempt))
    if result.weights and attempt.weights and result.weights != attempt.weights:
        attempt.restarts = True
        attempt.log.warning(
            "attempt_restarts",
            reason="other weights generated the text so far",
            weights=attempt.weights,
            weights_before=result.weights,
            tokens=attempt.claimed.output_tokens,
        )
        return
    attempt.finished_choices = {
        index for index, choice in result.choices.items() if choice.finish_reason is not None
    }
    attempt.generation = Generation(
        id=attempt.generation.id,
        endpoint=attempt.generation.endpoint,
        body=attempt.generation.body,
        resume={
            index: Resume(tuple(choice.chunks), "".join(choice.text))
            for index, choice in result.choices.items()
            if choice.finish_reason is None
        },
        finished=frozenset(attempt.finished_choices),
    )
    attempt.log.info("attempt_continues", tokens=attempt.claimed.output_tokens)


async def _read_log(store: JobStore, attempt: Attempt) -> list[Any]:
    while True:
        try:
            return await store.read_log(attempt.id, 0)
        except StoreUnavailable:
            if attempt.over:
                raise
            await asyncio.sleep(RETRY_SECONDS)
