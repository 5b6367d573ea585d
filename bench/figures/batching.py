"""Batching: throughput with 32 and 128 jobs in flight against one at a time."""

from bench.figure import Figure, interleaved, ratio, rounded
from bench.loads.completions import load
from bench.servers.pipeline_servers import pipeline


async def measure() -> Figure:
    """Measure streamed tokens/s through the whole pipeline at 1, 32 and 128 in flight."""
    async with pipeline() as servers, load(servers, 128) as clients:
        sides = await interleaved(
            3,
            one=lambda: clients.throughput(1, 6),
            batch_32=lambda: clients.throughput(32, 96),
            batch_128=lambda: clients.throughput(128, 256),
        )
    return Figure(
        "batching",
        round(ratio(sides["batch_32"], sides["one"]), 2),
        "x",
        must=12,
        aim=20,
        higher=True,
        compared_with="the same pipeline, one job at a time",
        details={
            "at_128": round(ratio(sides["batch_128"], sides["one"]), 2),
            **{f"{name}_tokens_per_second": rounded(values) for name, values in sides.items()},
        },
    )
