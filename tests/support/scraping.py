"""Reads a process's metrics as Prometheus does."""

import asyncio
import urllib.request
from collections.abc import Mapping

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.support.processes import PipelineProcess

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def metrics_port(process: PipelineProcess) -> int:
    """Return the port of a process's metrics."""
    settings = process.settings
    return {
        "api": settings.api.port,
        "worker": settings.worker.health_port,
        "control": settings.control.health_port,
        "ledger": settings.billing.health_port,
        "webhooks": settings.webhooks.health_port,
    }[process.name]


def read(port: int) -> list[Sample]:
    """Scrape once, in OpenMetrics."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept": OPENMETRICS}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return [sample for family in families for sample in family.samples]


async def scrape(process: PipelineProcess) -> list[Sample]:
    """Scrape a process once."""
    return await asyncio.to_thread(read, metrics_port(process))


def value(samples: list[Sample], name: str, **labels: str) -> float | None:
    """Return the sum of the samples with these labels; None when there is none."""
    found = [s.value for s in samples if s.name == name and _has(s.labels, labels)]
    return sum(found) if found else None


def _has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(name) == text for name, text in wanted.items())
