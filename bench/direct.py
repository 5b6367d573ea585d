"""vLLM's own AsyncLLM with the same model and requests, in a process of its own.

Driven over stdin/stdout: `throughput IN_FLIGHT REQUESTS` answers tokens/s, `first REQUESTS`
answers times to the first token in ms.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.loads import OUTPUT_TOKENS, prompt
from core.settings.engine import EngineSettings

#: Its children hold its output open, so its death shows only as silence.
ANSWER_SECONDS = 180.0

#: Its worker waits for more by spinning for a second: half of the cores, while the other side is
#: already being measured.
SPIN_SECONDS = 1.5


class Direct:
    """The other side of a comparison."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def _ask(self, *words: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        async with asyncio.timeout(ANSWER_SECONDS):
            while line := await self._process.stdout.readline():
                if line.startswith(b"ANSWER "):
                    await asyncio.sleep(SPIN_SECONDS)
                    return json.loads(line[7:])
        raise RuntimeError("the AsyncLLM process ended")

    async def throughput(self, in_flight: int, requests: int) -> float:
        """Return tokens/s."""
        return float(await self._ask("throughput", in_flight, requests))

    async def first_token(self, requests: int) -> list[float]:
        """Return times to the first token in ms."""
        return list(await self._ask("first", requests))


@asynccontextmanager
async def direct() -> AsyncIterator[Direct]:
    """Run AsyncLLM for the length of a block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.direct",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
        },
    )
    try:
        side = Direct(process)
        await side.throughput(32, 64)
        yield side
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its core and worker processes too
        await process.wait()


async def _serve() -> None:
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
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        verb, *numbers = line.split()
        if verb == "throughput":
            answer: Any = await throughput(int(numbers[0]), int(numbers[1]))
        else:
            answer = [(await one(4))[0] for _ in range(int(numbers[0]))]
        print("ANSWER", json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve())
