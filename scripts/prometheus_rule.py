"""`make rules`: writes the PrometheusRule of k8s from `deploy/prometheus/rules`.

A test fails while the two differ. Needs PyYAML.
"""

# ruff: noqa: INP001, T201 - it prints to the terminal

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "deploy" / "prometheus" / "rules"
OBJECT = ROOT / "k8s" / "components" / "monitoring" / "penstock-prometheusrule.yaml"
HEAD = "# Generated from deploy/prometheus/rules by scripts/prometheus_rule.py; edit them there.\n"


def prometheus_rule() -> dict[str, Any]:
    """Return the PrometheusRule with the groups of all files, in the order of the file names."""
    groups = []
    for file in sorted(RULES.glob("*.yml")):
        groups += yaml.safe_load(file.read_text())["groups"]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "penstock", "labels": {"app.kubernetes.io/name": "penstock"}},
        "spec": {"groups": groups},
    }


def main() -> int:
    """Write the PrometheusRule; return the exit code."""
    text = yaml.safe_dump(prometheus_rule(), sort_keys=False, width=100, allow_unicode=True)
    OBJECT.write_text(HEAD + text)
    print(f"{OBJECT.relative_to(ROOT)} is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
