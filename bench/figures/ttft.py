"""Time to first token: milliseconds that an idle pipeline adds to AsyncLLM alone."""

from statistics import median

from bench.baselines.async_llm import async_llm
from bench.figure import Figure, interleaved, rounded
from bench.loads.completions import load
from bench.servers.pipeline_servers import pipeline


async def measure() -> Figure:
    """Measure the added milliseconds, one request at a time."""
    async with pipeline() as servers, load(servers, 1) as client, async_llm() as alone:

        async def through() -> float:
            return median(await client.first_token(15))

        async def direct() -> float:
            return median(await alone.first_token(15))

        sides = await interleaved(5, pipeline=through, alone=direct)
    added = median(a - b for a, b in zip(sides["pipeline"], sides["alone"], strict=True))
    return Figure(
        "ttft",
        round(added, 2),
        "ms",
        must=15,
        aim=5,
        higher=False,
        compared_with="vLLM's AsyncLLM alone, idle, one request at a time",
        details={f"{name}_ms": rounded(values, 2) for name, values in sides.items()},
    )
