"""vLLM's AsyncLLM alone with the same model and requests, in its own process.

Controlled over two pipes, one request and one answer a line: `throughput IN_FLIGHT REQUESTS`
answers tokens/s, `first REQUESTS` answers times to the first token in ms.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any

from bench.loads.completions import OUTPUT_TOKENS, prompt
from core.runtime.child_process import ChildProcess, Program
from core.settings.engine import EngineSettings

#: Its children hold the pipe of answers open, so its death shows only as a timeout.
ANSWER_SECONDS = 180.0

#: Its worker spins for a second after the last request, which would take CPU from the other side.
SPIN_SECONDS = 1.5

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


class AsyncLlmClient:
    """Drives the AsyncLLM process."""

    def __init__(self, process: ChildProcess, requests: IO[bytes], answers: IO[str]) -> None:
        self._process = process
        self._requests = requests
        self._answers = answers

    async def _ask(self, *command: object) -> Any:
        line = ""
        with suppress(BrokenPipeError):  # it has ended, which is said below
            self._requests.write(" ".join(map(str, command)).encode() + b"\n")
            async with asyncio.timeout(ANSWER_SECONDS):
                line = await asyncio.to_thread(self._answers.readline)
        if not line:
            raise RuntimeError(f"the AsyncLLM process ended:\n{self._process.tail()}")
        await asyncio.sleep(SPIN_SECONDS)
        return json.loads(line)

    async def throughput(self, in_flight: int, requests: int) -> float:
        """Run requests with so many in flight; return tokens/s."""
        return float(await self._ask("throughput", in_flight, requests))

    async def first_token(self, requests: int) -> list[float]:
        """Run requests one after the other; return times to the first token in ms."""
        return list(await self._ask("first", requests))


@asynccontextmanager
async def async_llm() -> AsyncIterator[AsyncLlmClient]:
    """Run AsyncLLM for the length of a block."""
    (their_requests, our_requests), (our_answers, their_answers) = os.pipe(), os.pipe()
    theirs = (their_requests, their_answers)
    with (
        tempfile.TemporaryDirectory() as folder,
        os.fdopen(our_answers) as answers,
        os.fdopen(our_requests, "wb", buffering=0) as requests,
    ):
        command = [sys.executable, "-m", "bench.baselines.async_llm", *map(str, theirs)]
        environment = {**os.environ, **ENVIRONMENT}
        process = ChildProcess(
            Program("async_llm", command, Path(folder, "log"), environment, pass_fds=theirs)
        )
        try:
            process.begin()
            for descriptor in theirs:
                os.close(descriptor)  # so that the end of the process ends the pipe of answers
            side = AsyncLlmClient(process, requests, answers)
            await side.throughput(32, 64)
            yield side
        finally:
            process.kill()  # its core and worker processes too


async def _serve(requests: IO[str], answers: IO[str]) -> None:
    from vllm import SamplingParams  # noqa: PLC0415 - only in the process that measures it
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

    settings = EngineSettings()
    engine = AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            model=settings.model,
            dtype=settings.dtype,
            enforce_eager=True,
            max_num_seqs=128,
            disable_log_stats=True,
        )
    )
    number = 0

    async def one(tokens: int) -> tuple[float, int]:
        nonlocal number
        number += 1
        params = SamplingParams(
            temperature=0,
            max_tokens=tokens,
            ignore_eos=True,
            output_kind=RequestOutputKind.DELTA,
        )
        began, first, count = time.perf_counter(), 0.0, 0
        async for output in engine.generate(prompt(number), params, f"r{number}"):
            first = first or (time.perf_counter() - began) * 1000
            count += len(output.outputs[0].token_ids)
        return first, count

    async def throughput(in_flight: int, requests: int) -> float:
        left = iter(range(requests))
        counts: list[int] = []

        async def client() -> None:
            for _ in left:
                _, count = await one(OUTPUT_TOKENS)
                counts.append(count)

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(in_flight)))
        return sum(counts) / (time.perf_counter() - began)

    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, requests.readline):
        verb, *numbers = line.split()
        if verb == "throughput":
            answer: Any = await throughput(int(numbers[0]), int(numbers[1]))
        else:
            answer = [(await one(4))[0] for _ in range(int(numbers[0]))]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    with os.fdopen(int(sys.argv[1])) as given, os.fdopen(int(sys.argv[2]), "w") as answered:
        asyncio.run(_serve(given, answered))
