"""`make rules`: writes the ConfigMap of k8s with the dashboards of `deploy/grafana/dashboards`.

The sidecar of Grafana's chart loads every ConfigMap with its label. A test fails while the two
differ. Needs PyYAML.
"""

# ruff: noqa: INP001, T201 - it prints to the terminal

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
OBJECT = ROOT / "k8s" / "components" / "monitoring" / "penstock-dashboards-configmap.yaml"
HEAD = "# Generated from deploy/grafana/dashboards by scripts/grafana_dashboards.py.\n"


def dashboards() -> dict[str, Any]:
    """Return the ConfigMap with each dashboard, as small as it can be written."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "penstock-dashboards",
            "labels": {"app.kubernetes.io/name": "penstock", "grafana_dashboard": "1"},
        },
        "data": {
            file.name: json.dumps(json.loads(file.read_text()), separators=(",", ":"))
            for file in sorted(DASHBOARDS.glob("*.json"))
        },
    }


def main() -> int:
    """Write the ConfigMap; return the exit code."""
    OBJECT.write_text(HEAD + yaml.safe_dump(dashboards(), sort_keys=False, width=100))
    print(f"{OBJECT.relative_to(ROOT)} is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
