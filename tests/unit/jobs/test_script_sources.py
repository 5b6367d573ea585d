"""The Lua scripts and their Python callers agree on names, constants and rows."""

import inspect
import re
from pathlib import Path

import pytest

from accounts import cache_scripts
from core import errors
from core.redis.script_sources import Script, ScriptSources, read_scripts
from jobs.fairness import ServiceTier
from jobs.status import Status
from jobs.store import job_scripts, script_rows
from jobs.store.script_args import ClaimArgs, RetentionArgs, SubmitArgs

ACCOUNTS = Path(cache_scripts.__file__).parent / "scripts"
FOLDERS = {job_scripts.FOLDER: job_scripts.SCRIPTS, ACCOUNTS: cache_scripts.SCRIPTS}
FILES = [path for folder in FOLDERS for path in sorted(folder.glob("*.lua")) if path.stem != "lib"]


@pytest.fixture(scope="module")
def sources() -> ScriptSources:
    return job_scripts.job_scripts("<@TAG@|@QUEUE@>")


def script_of(path: Path) -> Script:
    return FOLDERS[path.parent][path.stem]


def test_every_file_is_declared_and_every_declaration_has_a_file() -> None:
    for folder, scripts in FOLDERS.items():
        assert {path.stem for path in folder.glob("*.lua")} - {"lib"} == set(scripts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_script_uses_every_argument_by_its_name_and_none_by_number(path: Path) -> None:
    text = re.sub(r"--.*", "", path.read_text())
    assert not re.search(r"ARGV\[\d", text)
    words = set(re.findall(r"\w+", text))
    script = script_of(path)
    names = {*script.arguments._fields, *script.tables}  # type: ignore[attr-defined]
    assert names <= words


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_script_names_the_classes_that_it_takes_and_returns(path: Path) -> None:
    head = path.read_text().partition("\nlocal ")[0]
    script = script_of(path)
    for group in (script.arguments, *script.tables.values()):
        if group._fields:  # type: ignore[attr-defined]
            assert group.__name__ in head
    for name, fields in re.findall(r"(\w+Row): ([\w, ]+)", head):
        row = getattr(script_rows, name)
        assert tuple(re.split(r"\s{2,}", fields)[0].strip().split(", ")) == row._fields


def test_every_row_belongs_to_a_script() -> None:
    text = "".join(path.read_text() for path in FILES)
    rows = {name for name, _ in inspect.getmembers(script_rows, inspect.isclass) if "Row" in name}
    assert rows <= set(re.findall(r"\w+Row", text))


def test_the_prelude_binds_arguments_tables_and_the_rest() -> None:
    script = Script(ClaimArgs, {"retention": RetentionArgs})
    first, second, third = script.prelude("for i = REST, #ARGV do end").splitlines()
    names, count = ClaimArgs._fields, len(ClaimArgs._fields)
    assert first == f"local {', '.join(names)} = unpack(ARGV, 1, {count})"
    assert second.startswith(
        f"local retention = {{ ttl_ms = ARGV[{count + 1}], tombstone_ms = ARGV["
    )
    assert third == f"local REST = {count + len(RetentionArgs._fields) + 1}"
    assert Script().prelude("return 1") == ""


def test_a_script_gets_only_the_definitions_that_it_uses(tmp_path: Path) -> None:
    (tmp_path / "one.lua").write_text("return used(P)\n")
    library = "local function used(x) return helper(x) end\nlocal function unused() end\n"
    given = read_scripts(
        tmp_path, {"one": Script()}, library="local function helper(x) return x end\n" + library
    )
    assert "helper" in given.texts["one"]
    assert "unused" not in given.texts["one"]


def test_statuses_tiers_and_error_codes_come_from_python(sources: ScriptSources) -> None:
    submit, claim, sweep = (sources.texts[name] for name in ("submit", "claim", "sweep"))
    assert f"local QUEUED = '{Status.QUEUED}'" in submit
    assert f"local TIERS = {len(ServiceTier)}" in claim
    assert f"local DEADLINE_EXCEEDED = '{errors.DeadlineExceeded.code}'" in sweep
    assert f"local POISON_JOB = '{errors.PoisonJob.code}'" in sweep
    for path in job_scripts.FOLDER.glob("*.lua"):
        code = re.sub(r"--.*", "", path.read_text())
        written = set(re.findall(r"'([a-z_-]+)'", code))
        codes = {"deadline-exceeded", "run-timeout", "poison-job", "in_progress"}
        ends = {"completed", "failed", "expired"}
        assert not written & (codes | ends), path.name


def test_a_submission_fits_the_locals_of_a_lua_function() -> None:
    assert len(SubmitArgs._fields) < 60


def test_only_scripts_that_may_run_twice_are_repeated(sources: ScriptSources) -> None:
    assert sources.once == {"claim", "delete", "tokenise"}
