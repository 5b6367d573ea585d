"""A real server that speaks S3's protocol, in a process of its own."""

import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request

from tests.support.redis_server import free_port

BUCKET = "penstock-files"


class S3Server:
    """moto's server: buckets in memory."""

    def __init__(self) -> None:
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What `files.url` says to use it; each time a prefix of its own."""
        endpoint = f"http://127.0.0.1:{self._port}"
        return f"s3://{BUCKET}/some/{secrets.token_hex(4)}?endpoint={endpoint}&region=us-east-1&key=k&secret=s"

    def start(self) -> None:
        """Start it and make the bucket."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        give_up = time.monotonic() + 60
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/{BUCKET}", method="PUT", data=b""
        )
        while True:
            try:
                urllib.request.urlopen(request, timeout=5).close()
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
