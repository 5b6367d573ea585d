"""A process's probes: `/health` (live), `/ready`, `/metrics`, on a port of their own.

Invariant: `/health` fails only for what a restart mends; a worker that is loading its model is
alive and not ready.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import uvicorn
from prometheus_client import make_asgi_app

#: Returns None when all is well, else what is wrong.
Check = Callable[[], str | None]


class HealthServer:
    """Serves the probes on the running loop."""

    def __init__(self, host: str, port: int, live: Check, ready: Check) -> None:
        self._checks = {"/health": live, "/ready": ready}
        self._metrics = make_asgi_app()
        config = uvicorn.Config(
            self._app,
            host=host,
            port=port,
            interface="asgi3",
            log_level="warning",
            lifespan="off",
            access_log=False,
        )
        self._server = _EmbeddedServer(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind the port. Raises OSError when it is taken."""
        self._task = asyncio.create_task(self._server.serve(), name="health")
        while not self._server.started:
            if self._task.done():
                await self._task
                msg = "the health port could not be bound"
                raise OSError(msg)
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/metrics"):
            await self._metrics(scope, receive, send)
            return
        check = self._checks.get(scope["path"])
        problem = check() if check else "no such path"
        status = 404 if check is None else 503 if problem else 200
        body = orjson.dumps({"status": "ok" if status == 200 else "unavailable", "detail": problem})
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _EmbeddedServer(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    def install_signal_handlers(self) -> None:
        return

    def capture_signals(self) -> Any:
        from contextlib import nullcontext  # noqa: PLC0415 - used by this override alone

        return nullcontext()
