"""The GPUs this process may use, read from NVML at each scrape.

Invariant: without NVIDIA's driver or library these metrics are absent, not zero. A reading that a
GPU does not support (for example on a MIG slice or a virtual GPU) is left out.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric

from core.exposition import ScrapeCollector

log = structlog.get_logger()

LABELS = ("model", "gpu", "name")

#: Metric name, help text, and the function that reads it from a device.
READINGS: tuple[tuple[str, str, Callable[[Any, Any], float]], ...] = (
    (
        "penstock_gpu_utilisation_ratio",
        "Share of the last moments in which a kernel ran, 0 to 1",
        lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    ),
    (
        "penstock_gpu_memory_used_bytes",
        "Memory of the GPU in use",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
    ),
    (
        "penstock_gpu_memory_total_bytes",
        "Memory of the GPU",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
    ),
    (
        "penstock_gpu_power_watts",
        "Power the GPU draws",
        lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
    ),
    (
        "penstock_gpu_temperature_celsius",
        "Temperature of the GPU",
        lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
    ),
)


def open_gpus(model: str) -> "GpuCollector | None":
    """Return a collector for the GPUs that this process may use; None if there are none."""
    try:
        import pynvml  # noqa: PLC0415 - only GPU workers have it
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        devices = visible(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES"))
    except pynvml.NVMLError as error:
        log.info("gpus_not_measured", reason=str(error))
        return None
    return GpuCollector(pynvml, devices, model) if devices else None


def visible(nvml: Any, wanted: str | None) -> list[Any]:
    """Return the devices that `CUDA_VISIBLE_DEVICES` names, as indices or UUIDs like CUDA."""
    if wanted is None:
        return [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    found = []
    for name in filter(None, (part.strip() for part in wanted.split(","))):
        if name == "-1":
            break  # CUDA ignores everything after an invalid index
        if name.isdigit():
            found.append(nvml.nvmlDeviceGetHandleByIndex(int(name)))
        else:
            found.append(nvml.nvmlDeviceGetHandleByUUID(name))
    return found


class GpuCollector(ScrapeCollector):
    """Reads each device at the scrape."""

    def __init__(self, nvml: Any, devices: list[Any], model: str) -> None:
        self._nvml = nvml
        self._model = model
        self._devices = devices

    def collect(self) -> Iterator[Metric]:
        """Return one gauge per reading, with a sample per device."""
        for metric, text, read in READINGS:
            family = GaugeMetricFamily(metric, text, labels=LABELS)
            for device in self._devices:
                with suppress(self._nvml.NVMLError):
                    family.add_metric(self._labels(device), float(read(self._nvml, device)))
            if family.samples:
                yield family

    def _labels(self, device: Any) -> list[str]:
        index = self._nvml.nvmlDeviceGetIndex(device)
        return [self._model, str(index), str(self._nvml.nvmlDeviceGetName(device))]
