"""A real S3 server (moto) in its own process."""

import secrets
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from core.runtime.child_process import ChildProcess, Program, free_port

BUCKET = "penstock-files"


class S3Server(ChildProcess):
    """moto's server: buckets in memory."""

    def __init__(self) -> None:
        self._port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        log = Path(tempfile.mkdtemp(prefix="penstock-s3-")) / "log"
        super().__init__(Program("s3", command, log))

    @property
    def url(self) -> str:
        """The `files.url` setting for this server, with a new prefix each time."""
        endpoint = f"http://127.0.0.1:{self._port}"
        return f"s3://{BUCKET}/some/{secrets.token_hex(4)}?endpoint={endpoint}&region=us-east-1&key=k&secret=s"

    def ready(self) -> bool:
        """Create the bucket; return whether it exists."""
        address = f"http://127.0.0.1:{self._port}/{BUCKET}"
        try:
            request = urllib.request.Request(address, method="PUT", data=b"")
            urllib.request.urlopen(request, timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            return False
        return True
