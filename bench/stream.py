"""Streaming: tokens/s that clients receive through everything, against AsyncLLM alone."""

from bench.direct import direct
from bench.figures import Figure, interleaved, ratio, rounded
from bench.loads import load
from bench.servers import pipeline


async def measure() -> Figure:
    """Measure both sides at 32 in flight, the pipeline with its log, fence and SSE clients."""
    async with pipeline() as servers, load(servers, 32) as clients, direct() as alone:
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
