"""Background tasks of a worker: an error reaches the owner, a cancellation is none."""

import asyncio

from tests.support.waiting import eventually
from workers.background_tasks import BackgroundTasks


async def test_the_error_of_a_task_is_fatal() -> None:
    errors: list[BaseException] = []

    async def fail() -> None:
        raise ValueError("broken")

    async def reported() -> bool:
        return bool(errors)

    BackgroundTasks(errors.append).spawn(fail())

    await eventually(reported)
    assert [str(error) for error in errors] == ["broken"]


async def test_cancel_ends_every_task_without_an_error() -> None:
    errors: list[BaseException] = []
    tasks = BackgroundTasks(errors.append)

    async def wait() -> None:
        await asyncio.Event().wait()

    started = [tasks.spawn(wait()) for _ in range(3)]
    await tasks.cancel()

    assert all(task.cancelled() for task in started)
    assert not errors
