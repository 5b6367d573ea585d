"""Runs the API under uvicorn."""

import gc
import socket

import uvicorn

from api.app import create_app
from api.presence import GRACE_SECONDS
from jobs.logs import configure_logs
from jobs.settings import Settings


class Server(uvicorn.Server):
    """Tells the streams before it stops, so that they end in a resumable way."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start; what was imported until now is no garbage and need not be searched for it."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        # A request makes hundreds of objects and no cycles: by default every other one is searched.
        gc.set_threshold(20_000, 20, 20)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; bounded by the configured grace."""
        app = self.config.loaded_app
        while not hasattr(app, "state") and hasattr(app, "app"):
            app = app.app
        app.state.services.closing.start()
        await super().shutdown(sockets)


def create_server(settings: Settings) -> Server:
    """Return a server that has not started."""
    return Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.api.host,
            port=settings.api.port,
            loop="uvloop",
            http="httptools",
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
    create_server(settings).run()
