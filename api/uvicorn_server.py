"""Runs the API under uvicorn.

Invariant: after a signal the server exits within a bounded time with exit code 0, whatever its
clients do.
"""

import asyncio
import gc
import signal
import socket
import time
from types import FrameType

import uvicorn

from accounts.access_tokens import MissingSecretError
from api.app import create_app
from api.server.connection_limits import ConnectionLimits
from api.server.http_protocol import BoundedHttpProtocol, bounded_protocol
from api.server.request_log import RequestLog
from core.runtime.process import refuse_settings
from core.settings.invalid_settings import InvalidSettings
from core.settings.tree import Settings
from core.tracing import close_tracing, configure_tracing
from intake.lifetime.request_lifetime import GRACE_SECONDS

#: How often uvicorn calls `on_tick`.
TICKS_PER_SECOND = 10


class ApiServer(uvicorn.Server):
    """Ends the open streams first when it stops, so that clients can resume them."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and exclude everything imported so far from garbage collection."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        # Requests create hundreds of objects and no cycles; by default every second one collects.
        gc.set_threshold(20_000, 20, 20)

    async def on_tick(self, counter: int) -> bool:
        """Once a second, disconnect clients that take too long to send a request."""
        if counter % TICKS_PER_SECOND == 0:
            now = time.monotonic()
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedHttpProtocol):
                    connection.disconnect_if_overdue(now)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        """Stop on a signal; a second SIGINT stops without waiting for requests.

        uvicorn's own handler would raise the signal again, which changes the exit code.
        """
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then the server; disconnect clients that do not read in time."""
        app = self.config.loaded_app
        while not hasattr(app, "state") and hasattr(app, "app"):
            app = app.app
        app.state.services.open_requests.shut_down()
        closing = asyncio.create_task(self._close_connections())
        try:
            await super().shutdown(sockets)
        finally:
            closing.cancel()

    async def _close_connections(self) -> None:
        """Close connections accepted during the shutdown; abort all after the grace period."""
        for _ in range(int(GRACE_SECONDS) + 1):
            await asyncio.sleep(1)
            for connection in list(self.server_state.connections):
                connection.shutdown()
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def create_server(settings: Settings) -> ApiServer:
    """Create a server that has not started."""
    places = ConnectionLimits(settings.limits, settings.api)
    protocol = bounded_protocol(settings.limits, places, RequestLog(settings.log))
    return ApiServer(
        uvicorn.Config(
            create_app(settings),
            host=settings.api.host,
            port=settings.api.port,
            loop="uvloop",
            http=protocol,
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
    """Serve until SIGTERM or SIGINT; `read_settings` has set up the logs."""
    if settings.auth.jwt_secret is None:
        refuse_settings(InvalidSettings(str(MissingSecretError())))
    configure_tracing(settings.trace, "api")
    create_server(settings).run()
    close_tracing()
