"""The probes of a process: `/health`, `/ready` and `/metrics`, on their own port and thread.

It uses a thread and the standard library's server, because a server on the worker's event loop
would wake it ten times a second. Invariant: `/health` fails only for what a restart repairs; a
worker that loads its model is alive and not ready.
"""

import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
import structlog
from pydantic import SecretStr

from core.exposition import Exposition
from core.runtime.metrics_access import CHALLENGE, REFUSAL, may_read_metrics

log = structlog.get_logger()

#: Returns None when all is well, else what is wrong.
Check = Callable[[], str | None]


def always_live() -> None:
    """Always live: the process waits for what is away, and a restart would not help."""


class HealthServer:
    """Serves the probes from a thread."""

    def __init__(
        self,
        host: str,
        port: int,
        live: Check,
        ready: Check,
        exposition: Exposition,
        token: SecretStr | None,
    ) -> None:
        """Bind the port; `token` is what `/metrics` needs. Raises OSError when it is taken."""
        checks = {"/health": live, "/ready": ready}
        own = {"checks": checks, "exposition": exposition, "token": token}
        handler = type("Handler", (_Handler,), own)
        self._server = _Server((host, port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(1.0,), name="health", daemon=True
        )

    def start(self) -> None:
        """Start to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop to answer; does not wait."""
        self._server.socket.close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Log what went wrong in the shape of everything else; a prober that left is nothing."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            log.error("probe_failed", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    checks: dict[str, Check]
    exposition: Exposition
    token: SecretStr | None
    timeout = 5

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            if not may_read_metrics(self.headers.get("Authorization"), self.token):
                refusal = orjson.dumps({"status": "unauthenticated", "detail": REFUSAL})
                self._answer(401, refusal, "application/json")
                return
            self._answer(200, *self.exposition.render(self.headers.get("Accept", "")))
            return
        check = self.checks.get(path)
        problem = check() if check else "no such path"
        status = 404 if check is None else 503 if problem else 200
        body = {"status": "ok" if status == 200 else "unavailable", "detail": problem}
        self._answer(status, orjson.dumps(body), "application/json")

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", CHALLENGE)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Probes come every few seconds: not logged."""
