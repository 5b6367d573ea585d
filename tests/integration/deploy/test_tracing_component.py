"""With `components/tracing` in an overlay, every process exports spans."""

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from core.settings.tree import Settings
from tests.support.manifests import ROOT, Manifests, matches

RUNNING = {"api", "control", "deliverer", "feeder", "ledger", "worker"}


def test_every_process_knows_the_collector_and_is_let_out_to_it(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    overlay = tmp_path / "k8s/overlays/dev"
    file = overlay / "kustomization.yaml"
    before, after = "  - ../../components/redis\n", "  - ../../components/tracing\n"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, before + after))

    traced = Manifests(os.path.relpath(overlay, ROOT / "k8s/overlays"))

    policy = traced.of("NetworkPolicy")["penstock-traces"]["spec"]
    (egress,) = policy["egress"]
    (namespace,) = (peer["namespaceSelector"]["matchLabels"].values() for peer in egress["to"])
    told = set()
    for container in traced.containers(init=False):
        endpoint = container.variables.get("PENSTOCK_TRACE__ENDPOINT")
        assert (endpoint is not None) == matches(policy["podSelector"], container.labels)
        if endpoint is None:
            continue
        settings = Settings(_env_file=None, trace={"endpoint": endpoint})
        url = urlsplit(settings.trace.endpoint)
        assert [port["port"] for port in egress["ports"]] == [url.port]
        assert str(url.hostname).partition(".")[2] in namespace
        told.add(container.component)
    assert told == RUNNING
