"""A real Prometheus that scrapes real processes, with the rules that are shipped."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import yaml

from core.runtime.child_process import ChildProcess, Program, answers, free_port
from tests.support.processes import ROOT
from tests.support.programs import program

DEPLOYED = ROOT / "deploy/prometheus"
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
DURATION = re.compile(r"(?<=\[)(\d+)([smhd])(?=\])")


def shipped(kind: str) -> dict[str, Any]:
    """Return the shipped `recording` or `alerts` rules."""
    rules: dict[str, Any] = yaml.safe_load((DEPLOYED / f"rules/{kind}.yml").read_text())
    return rules


def rules_of(kind: str) -> list[dict[str, Any]]:
    """Return the shipped rules of a kind, one after the other."""
    return [rule for group in shipped(kind)["groups"] for rule in group["rules"]]


def scaled(rules: dict[str, Any], by: int) -> dict[str, Any]:
    """Return rules whose windows and waits are so many times shorter; a test has no hours."""

    def shorter(seconds: float) -> str:
        return f"{max(1, int(seconds / by))}s"

    groups = []
    for group in rules["groups"]:
        shorts = [dict(rule) for rule in group["rules"]]
        for rule in shorts:
            rule["expr"] = DURATION.sub(lambda m: shorter(int(m[1]) * UNITS[m[2]]), rule["expr"])
            if "for" in rule:
                rule["for"] = shorter(int(rule["for"][:-1]) * UNITS[rule["for"][-1]])
        groups.append({**group, "rules": shorts})
    return {"groups": groups}


class PrometheusServer(ChildProcess):
    """One server; `targets` are job names and ports on this machine."""

    def __init__(
        self, directory: Path, targets: Mapping[str, int], rules: Mapping[str, dict[str, Any]]
    ) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._client = httpx2.Client(base_url=self.url, timeout=10, trust_env=False)
        directory.mkdir(parents=True)
        for name, content in rules.items():
            (directory / f"{name}.rules.yml").write_text(yaml.safe_dump(content))
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["*.rules.yml"],
            "scrape_configs": [
                {
                    "job_name": f"penstock-{name}",
                    "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
                }
                for name, port in targets.items()
            ],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = [
            program("prometheus"),
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
        ]
        super().__init__(Program("prometheus", command, directory / "log", stop_seconds=20))

    def ready(self) -> bool:
        """Say whether it answers."""
        return answers(f"{self.url}/-/ready")

    def stop(self, number: int | None = None, seconds: float | None = None) -> int:
        """Stop it."""
        self._client.close()
        return super().stop(number, seconds)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series an expression has now."""
        return list(self._ask("query", query=expression)["result"])

    def exemplars(self, metric: str) -> list[dict[str, Any]]:
        """Return the exemplars of the last minutes."""
        now = time.time()
        found = self._ask("query_exemplars", query=metric, start=now - 600, end=now)
        return [exemplar for series in found for exemplar in series["exemplars"]]

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        alerts = self._ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def unhealthy(self) -> list[str]:
        """Return what is wrong with rules and targets."""
        rules = [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]
        targets = self._ask("targets")["activeTargets"]
        return [rule["lastError"] for rule in rules if rule["health"] == "err"] + [
            target["lastError"] for target in targets if target["health"] == "down"
        ]

    def _ask(self, what: str, **params: Any) -> Any:
        answer = self._client.get(f"/api/v1/{what}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]
