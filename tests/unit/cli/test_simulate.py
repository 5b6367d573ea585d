"""`penstock simulate`: figures, plots and error messages."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from cli.terminal.study_table import sparkline

LINES = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
LINES += [f"2026-01-01 00:{n // 10:02}:{n % 10 * 6:02},{200 + n},{20 + n % 50}" for n in range(200)]


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "trace.csv"
    file.write_text("\n".join(LINES) + "\n")
    return file


def simulate(*words: object) -> Result:
    return CliRunner().invoke(app, ["simulate", *map(str, words)], prog_name="penstock")


def test_json_has_every_figure_of_every_fleet(trace: Path) -> None:
    result = simulate("--trace", trace, "--compare", "--policy", "fixed:2", "--json")

    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    names = [run["name"] for run in found["runs"]]
    assert names == ["fixed-2", "shipped", "warm", "early", "queue-only",
                     "fixed fleet of 1", "oracle"]  # fmt: skip
    assert found["trace"]["requests"] == 200
    assert found["objective"]["gpu_hour_cost"] == "2.50"
    for run in found["runs"]:
        assert run["served"] == 200
        assert {"p50", "p95", "p99", "mean", "max"} == set(run["wait_seconds"])
    by_name = {run["name"]: run for run in found["runs"]}
    one = by_name["fixed fleet of 1"]["gpu_hours"]
    assert by_name["fixed-2"]["gpu_hours"] == pytest.approx(2 * one, rel=0.01)
    assert by_name["shipped"]["wait_seconds"]["max"] > 100  # it starts from nothing
    assert by_name["warm"]["meets_slo"]


def test_same_seed_prints_the_same_bytes(trace: Path) -> None:
    one, other = (simulate("--trace", trace, "--json", "--recommend") for _ in range(2))

    assert one.stdout == other.stdout
    recommended = json.loads(one.stdout)["recommended"]
    assert recommended["meets_slo"]
    assert recommended["tried"] > 10


def test_table_shows_fleets_and_recommendation(trace: Path) -> None:
    result = simulate("--trace", trace, "--recommend", "--slo-seconds", "5")

    assert result.exit_code == 0, result.output
    for text in ("shipped", "oracle", "fixed fleet of", "cooldownPeriod", "minReplicaCount",
                 "within 5 s", "first token P95", "waiting"):  # fmt: skip
        assert text in result.stdout


def test_slo_and_price_given_change_the_figures(trace: Path) -> None:
    words = ("--trace", trace, "--policy", "fixed:1", "--json")
    plain = json.loads(simulate(*words).stdout)["runs"][0]
    dear = json.loads(simulate(*words, "--gpu-hour-cost", "5", "--slo-seconds", "0.001").stdout)

    assert float(dear["runs"][0]["cost"]) == pytest.approx(2 * float(plain["cost"]), abs=0.01)
    assert plain["within_slo"] == 1
    assert dear["runs"][0]["within_slo"] == 0


def test_pictures_are_drawn_and_are_the_same_each_time(trace: Path) -> None:
    for turn in ("one", "two"):
        words = ("--plot", f"{turn}.svg", "--plot", f"{turn}.png", "--policy", "fixed:1")
        result = simulate("--trace", trace, *words)
        assert result.exit_code == 0, result.output

    for kind, magic in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        one, two = (Path(f"{turn}.{kind}").read_bytes() for turn in ("one", "two"))
        assert one == two
        assert len(one) > 10_000
        assert one.startswith(magic)


def test_a_single_request_can_be_planned_for(tmp_path: Path) -> None:
    file = tmp_path / "one.csv"
    file.write_text("\n".join(LINES[:2]) + "\n")

    result = simulate("--trace", file, "--recommend", "--plot", tmp_path / "one.png")

    assert result.exit_code == 0, result.output
    assert "fixed fleet of 1" in result.stdout


def test_missing_matplotlib_says_what_to_install(
    trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    result = simulate("--trace", trace, "--plot", "plan.svg")

    assert result.exit_code == 2
    assert "pip install 'matplotlib>=3.10'" in result.stderr
    assert "penstock[" not in result.stderr
    assert simulate("--trace", trace).exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--trace", "none.csv"), "none.csv: No such file"),
        (("--policy", "nonsense"), "expected shipped, warm"),
        (("--engine", "none.json"), "none.json: No such file"),
        (("--plot", "plan.pdf"), "ends in .svg or .png"),
        (("--scale", "0"), "scale: expected"),
        (("--gpu-hour-cost", "cheap"), "is not a number"),
        (("--gpu-hour-cost", "NaN"), "at least 0"),
        (("--slo-share", "0"), "must be above 0"),
    ],
)
def test_mistake_is_a_usage_error(trace: Path, words: tuple[str, ...], message: str) -> None:
    given = words if "--trace" in words else ("--trace", str(trace), *words)
    result = simulate(*given)

    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([0, 0], "    most 0"),
        ([1, 4, 8], "▁▄█  most 8"),
        ([0, 1, 100], " ▁█  most 100"),
    ],
)
def test_sparkline_shows_each_stretch_by_its_most(values: list[float], line: str) -> None:
    assert sparkline(values) == line


def test_sparkline_keeps_its_width() -> None:
    line = sparkline([i % 7 for i in range(1_000)], 50)

    assert line == "█" * 50 + "  most 6"
