"""nginx with the Ingress's settings passes on a stream without buffering."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from core.runtime.child_process import ChildProcess, Program, connects, free_port
from jobs.status import Status
from tests.support.api_case import case, settings_of
from tests.support.manifests import Manifests
from tests.support.programs import program
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

TOKENS = 60
#: What an nginx controller makes of each annotation.
DIRECTIVES = {
    "proxy-buffering": "proxy_buffering {}",
    "proxy-request-buffering": "proxy_request_buffering {}",
    "proxy-http-version": "proxy_http_version {}",
    "proxy-connect-timeout": "proxy_connect_timeout {}s",
    "proxy-read-timeout": "proxy_read_timeout {}s",
    "proxy-send-timeout": "proxy_send_timeout {}s",
    "proxy-next-upstream": "proxy_next_upstream {}",
    "proxy-body-size": "client_max_body_size {}",
}


def configuration(ingress: dict[str, Any], directory: Path, port: int, upstream: int) -> str:
    """Return the nginx configuration that the Ingress asks for."""
    notes = {
        name.rpartition("/")[2]: value for name, value in ingress["metadata"]["annotations"].items()
    }
    asked = [f"{DIRECTIVES[name].format(value)};" for name, value in notes.items()]
    locations = []
    for path in ingress["spec"]["rules"][0]["http"]["paths"]:
        place = f"= {path['path']}" if path["pathType"] == "Exact" else f"{path['path']}/"
        locations.append(
            f"location {place} {{ proxy_pass http://127.0.0.1:{upstream};"
            f' proxy_set_header Connection ""; {" ".join(asked)} }}'
        )
    temporary = " ".join(
        f"{kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""
        {user} daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log;
        events {{ }}
        http {{ access_log off; {temporary}
            server {{ listen 127.0.0.1:{port}; {" ".join(locations)} }} }}
    """


@contextmanager
def nginx(directory: Path, upstream: int) -> Iterator[int]:
    """Run nginx before an API process; yields its port."""
    (ingress,) = Manifests("prod").of("Ingress").values()
    port = free_port()
    file = directory / "nginx.conf"
    file.write_text(configuration(ingress, directory, port, upstream))
    command = [program("nginx"), "-p", str(directory), "-c", str(file)]
    server = ChildProcess(Program("nginx", command, directory / "nginx.log"))
    server.begin()
    try:
        server.wait_until(lambda: connects(port), 10)
        yield port
    finally:
        server.stop()


async def test_a_stream_through_the_ingress_arrives_as_it_is_made(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = settings_of(redis_server, tmp_path, step_seconds=0.05)
    async with case(settings, tmp_path, apis=1) as here:
        job_id, _ = await here.submit("a long one", TOKENS)
        with nginx(tmp_path, here.fleet.port()) as port:
            headers = {"Authorization": f"Bearer {here.key}"}
            async with httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=30
            ) as http:

                async def up() -> bool:
                    try:
                        return (await http.get("/health")).status_code == 200
                    except httpx2.TransportError:
                        return False

                await eventually(up)
                async with http.stream("GET", f"/v1/jobs/{job_id}/stream") as answer:
                    assert answer.headers["content-type"].startswith("text/event-stream")
                    arrived = [
                        await here.tokens(job_id)
                        async for line in answer.aiter_lines()
                        if line.startswith("event: delta")
                    ]
                assert (await here.store.get(job_id, "acme")).status == Status.COMPLETED
                assert arrived[0] < TOKENS / 2, "the first tokens come while the rest is made"
                assert len(set(arrived)) > 5, "and the others as they are made"

                for hidden in ("/metrics", "/ready", "/circuit-breaker/status"):
                    assert (await http.get(hidden)).status_code == 404, hidden
                assert (await http.get(f"/v1/jobs/{job_id}")).status_code == 200
