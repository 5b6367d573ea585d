"""The files that a forge reads (workflow, issue forms, hooks) are valid."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.manifests import ROOT

BIN = Path(sys.executable).parent
FORMS = [path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
SCHEMAS = {
    **{str(path.relative_to(ROOT)): "github-workflows" for path in WORKFLOWS},
    ".github/ISSUE_TEMPLATE/config.yml": "github-issue-config",
    **{str(path.relative_to(ROOT)): "github-issue-forms" for path in FORMS},
}


def said(*command: str) -> str:
    """Run a program of this environment; return what it said when it fails."""
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr if done.returncode else ""


def loaded(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


@pytest.mark.parametrize("path", SCHEMAS)
def test_it_follows_the_schema_of_the_forge(path: str) -> None:
    schema = f"vendor.{SCHEMAS[path]}"
    assert not said("check-jsonschema", "--builtin-schema", schema, path)


def test_a_wrong_form_is_noticed(tmp_path: Path) -> None:
    form = tmp_path / "form.yml"
    form.write_text("name: Bug\ndescription: x\nbody: [{type: paragraph}]\n")
    assert said("check-jsonschema", "--builtin-schema", "vendor.github-issue-forms", str(form))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_job_of_a_workflow_ends(path: Path) -> None:
    schema = "custom.github-workflows-require-timeout"
    assert not said("check-jsonschema", "--builtin-schema", schema, str(path))


def test_the_workflow_is_the_script_of_ci_with_no_more_rights_than_it_needs() -> None:
    workflow = loaded(".github/workflows/ci.yml")
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert job["steps"][-1]["run"] == "bash .ci/run"
    assert (ROOT / ".ci/run").exists()
    wanted = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert wanted is not None
    assert wanted[1] in job["strategy"]["matrix"]["python"]


def test_the_hooks_are_the_linters_of_make_lint() -> None:
    assert not said("pre-commit", "validate-config", ".pre-commit-config.yaml")
    (repository,) = loaded(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local", "the pinned tools are used, and no others"
    hooked = {
        hook["entry"].removeprefix(".venv/bin/").replace(" --force-exclude", "")
        for hook in repository["hooks"]
    }
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    lines = re.findall(r"^\t@\$\(BIN\)/(.+)$", recipe, re.MULTILINE)
    assert hooked == {line.removesuffix(" .") for line in lines}


def test_templates_lead_to_the_policies() -> None:
    template = (ROOT / ".github/pull_request_template.md").read_text()
    bug = (ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text()
    for name, text in (("CHANGELOG.md", template), ("docs/glossary.md", template)):
        assert name in text
        assert (ROOT / name).exists()
    assert "SECURITY.md" in bug
