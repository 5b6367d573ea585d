"""The Alertmanager example in a real Alertmanager: which alerts inhibit which."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from core.runtime.child_process import ChildProcess, Program, answers, free_port
from tests.support.programs import program
from tests.support.prometheus import DEPLOYED
from tests.support.waiting import eventually


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[httpx2.Client]:
    url = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus-alertmanager"),
        f"--config.file={DEPLOYED}/alertmanager.yml",
        f"--storage.path={tmp_path}",
        f"--web.listen-address={url}",
        "--cluster.listen-address=",
    ]
    server = ChildProcess(Program("alertmanager", command, tmp_path / "log"))
    server.begin()
    server.wait_until(lambda: answers(f"http://{url}/-/ready"), 30)
    with httpx2.Client(base_url=f"http://{url}", timeout=10, trust_env=False) as client:
        yield client
    server.stop()


async def test_a_region_without_redis_keeps_its_own_alerts_quiet_and_no_other_regions(
    alertmanager: httpx2.Client,
) -> None:
    firing = [
        ("PenstockRedisAway", "a"),
        ("PenstockNoWorkers", "a"),
        ("PenstockNoWorkers", "b"),
        ("PenstockLatencySlowBurn", "b"),
    ]
    alerts = [
        {"labels": {"alertname": name, "severity": "page", "cluster": cluster}}
        for name, cluster in firing
    ]
    assert alertmanager.post("/api/v2/alerts", json=alerts).status_code == 200

    async def quiet() -> set[tuple[str, str]] | None:
        found = alertmanager.get("/api/v2/alerts").json()
        if len(found) < len(alerts) or any(a["status"]["state"] == "unprocessed" for a in found):
            return None
        return {
            (alert["labels"]["alertname"], alert["labels"]["cluster"])
            for alert in found
            if alert["status"]["inhibitedBy"]
        }

    assert await eventually(quiet) == {("PenstockNoWorkers", "a")}
