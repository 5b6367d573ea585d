"""Tracing: the API's CPU time per submission with all traces recorded, against none.

CPU time is measured because client, receiver and Redis share the cores. With tracing off, only the
calls into the tracing module are left to measure.
"""

import asyncio
import timeit
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from threading import Thread

import orjson
import psutil

from bench.figure import Figure, interleaved, ratio, rounded
from bench.loads.http_client import HttpConnection
from bench.loads.submissions import CONCURRENCY, known_model
from bench.servers.pipeline_servers import Servers, pipeline
from core import tracing
from core.runtime.child_process import free_port

REQUESTS = 2_000
ROUNDS = 7
JOB = orjson.dumps(
    {
        "url": "/v1/completions",
        "body": {"model": "penstock-tiny", "prompt": "Tell me about the river.", "max_tokens": 64},
    }
)


class _TraceReceiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Write no access log."""


@contextmanager
def _trace_receiver() -> Iterator[str]:
    """Run a receiver that discards all traces; yield its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _TraceReceiver)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


async def measure() -> Figure:
    """Measure an API with traces, one with sampled traces and one without, interleaved."""
    with _trace_receiver() as endpoint:
        async with pipeline(worker=False) as servers:
            sides = await _sides(servers, endpoint)
    off = _nanoseconds_off()
    return Figure(
        "tracing",
        round(ratio(sides["on"], sides["off"]), 3),
        "x CPU",
        must=2.0,
        aim=1.25,
        higher=False,
        compared_with="the same submissions without traces",
        details={
            **{f"{name}_us_per_submit": rounded(values) for name, values in sides.items()},
            "sampled_1_percent": round(ratio(sides["sampled"], sides["off"]), 3),
            "off_ns_per_submit": round(off),
            "off_share": round(off / 1000 / median(sides["off"]), 5),
        },
    )


async def _sides(servers: Servers, endpoint: str) -> dict[str, list[float]]:
    ports = {"off": servers.port}
    for name, share in (("on", "1.0"), ("sampled", "0.01")):
        port = ports[name] = free_port()
        servers.start(
            name,
            "api",
            f"http://127.0.0.1:{port}/ready",
            PENSTOCK_API__PORT=str(port),
            PENSTOCK_TRACE__ENDPOINT=endpoint,
            PENSTOCK_TRACE__RATIO=share,
        )
    processes = {"off": "api", "on": "on", "sampled": "sampled"}
    async with known_model(servers) as store:

        async def cpu(name: str) -> float:
            used = psutil.Process(servers.processes[processes[name]].pid).cpu_times
            before = used()
            await _submit_all(ports[name], servers.key)
            after = used()
            await store.redis.delete(store.keys.tickets("penstock-tiny"))
            spent: float = after.user + after.system - before.user - before.system
            return spent / REQUESTS * 1e6

        for name in ports:
            await cpu(name)
        return await interleaved(
            ROUNDS,
            off=lambda: cpu("off"),
            on=lambda: cpu("on"),
            sampled=lambda: cpu("sampled"),
        )


async def _submit_all(port: int, key: str) -> None:
    connections = [await HttpConnection(port, key).open() for _ in range(CONCURRENCY)]
    left = iter(range(REQUESTS))

    async def client(connection: HttpConnection) -> None:
        for _ in left:
            status = await connection.post("/v1/jobs", JOB)
            if status != 202:
                raise RuntimeError(f"submission answered {status}")

    await asyncio.gather(*(client(connection) for connection in connections))
    for connection in connections:
        connection.close()


def _nanoseconds_off() -> float:
    """Return the nanoseconds that a submission's calls into tracing take while it is off."""
    times = 200_000
    best = min(timeit.repeat(lambda: (tracing.active(), tracing.begin_here()), number=times))
    return best / times * 1e9
