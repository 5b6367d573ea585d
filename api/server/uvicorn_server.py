"""Runs the API under uvicorn.

Invariant: a server that was told to stop is gone in bounded time, whatever its clients do, and
its exit code is 0.
"""

import asyncio
import gc
import signal
import socket
import sys
import time
from types import FrameType

import uvicorn

from accounts.access_tokens import MissingSecretError
from api.app import create_app
from api.server.http_protocol import BoundedHttpProtocol, wire
from core.logs import configure_logs
from core.settings.tree import Settings
from core.tracing import close_tracing, configure_tracing
from intake.request_lifetime import GRACE_SECONDS

#: How often uvicorn looks after itself.
TICKS_PER_SECOND = 10


class ApiServer(uvicorn.Server):
    """Tells the streams before it stops, so that they end in a resumable way."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start; what was imported until now is no garbage and need not be searched for it."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        # A request makes hundreds of objects and no cycles: by default every other one is searched.
        gc.set_threshold(20_000, 20, 20)

    async def on_tick(self, counter: int) -> bool:
        """Once a second, cut clients that owe the rest of a request for too long."""
        if counter % TICKS_PER_SECOND == 0:
            now = time.monotonic()
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedHttpProtocol):
                    connection.cut_if_overdue(now)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        """Obey a signal; a second interrupt waits for nobody.

        uvicorn's own would end the process by the signal, as if it had not obeyed.
        """
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: the streams are told first, and who does not read is cut in the end."""
        app = self.config.loaded_app
        while not hasattr(app, "state") and hasattr(app, "app"):
            app = app.app
        app.state.services.closing.start()
        cutting = asyncio.create_task(self._cut_connections())
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()

    async def _cut_connections(self) -> None:
        """Close what was accepted while uvicorn closed the rest; cut all when the grace is over."""
        for _ in range(int(GRACE_SECONDS) + 1):
            await asyncio.sleep(1)
            for connection in list(self.server_state.connections):
                connection.shutdown()
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def create_server(settings: Settings) -> ApiServer:
    """Return a server that has not started."""
    return ApiServer(
        uvicorn.Config(
            create_app(settings),
            host=settings.api.host,
            port=settings.api.port,
            loop="uvloop",
            http=wire(settings.limits),
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=int(GRACE_SECONDS) + 5,
        )
    )


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    configure_logs(settings.log, "api")
    if settings.auth.jwt_secret is None:
        sys.stderr.write(f"{MissingSecretError()}\n")
        raise SystemExit(2)
    configure_tracing(settings.trace, "api")
    create_server(settings).run()
    close_tracing()
