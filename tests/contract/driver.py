"""Drives one engine through the `Engine` protocol and keeps what it reports.

Invariant: every wait is for something the engine reports, and bounded.
"""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.engines.base import (
    AcceptedGeneration,
    Endpoint,
    Engine,
    EngineInfo,
    EngineLoad,
    Generation,
    Output,
    Resume,
)

WAIT_SECONDS = 60.0
CHAT: Endpoint = "/v1/chat/completions"
COMPLETION: Endpoint = "/v1/completions"
EMBEDDINGS: Endpoint = "/v1/embeddings"


@dataclass
class Choice:
    """All that was reported for one choice."""

    outputs: list[Output] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return [token for output in self.outputs for token in output.token_ids]

    @property
    def text(self) -> str:
        return "".join(output.text for output in self.outputs)

    @property
    def finish_reason(self) -> str | None:
        return self.outputs[-1].finish_reason

    def logged(self, count: int) -> Resume:
        """Return the log as it stood after `count` tokens."""
        chunks: list[tuple[int, ...]] = []
        text = ""
        for output in self.outputs:
            if sum(len(chunk) for chunk in chunks) >= count:
                break
            chunks.append(tuple(output.token_ids))
            text += output.text
        return Resume(tuple(chunks), text)


@dataclass
class Job:
    """One generation: the sink's side of it."""

    accepted: AcceptedGeneration | None = None
    choices: dict[int, Choice] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def error(self) -> Exception | None:
        errors = [o.error for c in self.choices.values() for o in c.outputs if o.error is not None]
        return errors[0] if errors else None

    def ended(self, expected: int) -> bool:
        ends = [c for c in self.choices.values() if c.finish_reason is not None]
        return self.error is not None or len(ends) >= expected


class Driver:
    """One started engine; also its sink."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name = name
        self.engine = engine
        self.jobs: dict[str, Job] = {}
        self.steps: list[list[Output]] = []
        self.death: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.info: EngineInfo
        self._names = itertools.count()

    async def start(self) -> None:
        self.info = await self.engine.start(self)

    def step(self, outputs: Sequence[Output]) -> None:
        self.steps.append(list(outputs))
        for output in outputs:
            job = self.jobs[output.id]
            job.choices.setdefault(output.index, Choice()).outputs.append(output)
            job.changed.set()

    def progress(self) -> None:
        """Only a worker watches the progress."""

    def dead(self, error: BaseException) -> None:
        self.death.set_result(error)

    async def add(
        self,
        body: dict[str, Any],
        resume: dict[int, Resume] | None = None,
        finished: frozenset[int] = frozenset(),
        account: str = "",
    ) -> str:
        """Add a body to the engine; return the generation's id."""
        name = f"{self.name}-{next(self._names)}"
        self.jobs[name] = Job()
        endpoint = CHAT if "messages" in body else COMPLETION
        if "input" in body:
            endpoint = EMBEDDINGS
        generation = Generation(name, endpoint, body, resume or {}, finished, account)
        self.jobs[name].accepted = await self.engine.add(generation)
        return name

    async def ended(self, name: str, choices: int = 1) -> Job:
        """Wait until that many choices of a generation have ended, or one failed."""
        job = self.jobs[name]
        async with asyncio.timeout(WAIT_SECONDS):
            while not job.ended(choices):
                job.changed.clear()
                await job.changed.wait()
        return job

    async def tokens(self, name: str, count: int) -> Job:
        """Wait until the first choice of a generation has `count` tokens."""
        job = self.jobs[name]
        async with asyncio.timeout(WAIT_SECONDS):
            while 0 not in job.choices or len(job.choices[0].ids) < count:
                job.changed.clear()
                await job.changed.wait()
        return job

    async def run(self, body: dict[str, Any], resume: Resume | None = None) -> Choice:
        """Run a body with one choice to its end."""
        name = await self.add(body, {0: resume} if resume is not None else None)
        job = await self.ended(name)
        assert job.error is None, job.error
        return job.choices[0]

    async def idle(self) -> EngineLoad:
        """Wait until the engine reports no load; another generation's step shows the time."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.engine.load().running or self.engine.load().waiting:
                await self.engine.probe()
        return self.engine.load()


def chat(text: Any, **fields: Any) -> dict[str, Any]:
    """Return a chat body that yields the same every time."""
    message = {"role": "user", "content": text}
    return {"model": "m", "messages": [message], "temperature": 0, "max_tokens": 40, **fields}


def completion(text: Any, **fields: Any) -> dict[str, Any]:
    """Return a completion body that yields the same every time."""
    return {"model": "m", "prompt": text, "temperature": 0, "max_tokens": 40, **fields}
