"""Stream: tokens/s that clients receive through the pipeline, against AsyncLLM alone."""

from bench.baselines.async_llm import async_llm
from bench.figure import Figure, interleaved, ratio, rounded
from bench.loads.completions import load
from bench.servers.pipeline_servers import pipeline


async def measure() -> Figure:
    """Measure both sides with 32 requests in flight."""
    async with pipeline() as servers, load(servers, 32) as clients, async_llm() as alone:
        sides = await interleaved(
            5,
            pipeline=lambda: clients.throughput(32, 128),
            alone=lambda: alone.throughput(32, 128),
        )
    return Figure(
        "stream",
        round(ratio(sides["pipeline"], sides["alone"]), 3),
        "x",
        must=0.7,
        aim=0.9,
        higher=True,
        compared_with="vLLM's AsyncLLM alone, same requests, 32 in flight",
        details={f"{name}_tokens_per_second": rounded(v) for name, v in sides.items()},
    )
