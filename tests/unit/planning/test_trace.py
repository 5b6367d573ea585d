"""Workload files: reading, and an error message for each mistake."""

from pathlib import Path

import pytest

from planning import synthetic
from planning.errors import TraceInvalid
from planning.trace import parse_time, read_trace, scaled

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
GOOD = "2023-11-16 18:17:03.9799600,4808,10"


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    file = path / "trace.csv"
    file.write_bytes(end.join([*lines, ""]).encode())
    return file


def test_azure_format_is_read(tmp_path: Path) -> None:
    file = write(tmp_path, HEADER, GOOD, "2023-11-16 18:17:04.0319607,3180,8", end="\r\n")

    trace = read_trace(file)

    assert list(trace.arrivals) == [0.0, pytest.approx(0.0520007, abs=1e-6)]
    assert list(trace.inputs) == [4808, 3180]
    assert list(trace.outputs) == [10, 8]
    assert trace.tokens == 8006
    assert trace.accounts == ["trace", "trace"]
    assert list(trace.tiers) == [1, 1]


def test_columns_may_stand_in_any_order_with_accounts_and_tiers(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "\ufeffTier,GeneratedTokens,Account,ContextTokens,Other,TIMESTAMP",
        "flex,5,acme,7,x,2026-01-01T00:00:00Z",
        ",6,,8,x,2026-01-01T00:00:01+00:00",
    )

    trace = read_trace(file)

    assert trace.accounts == ["acme", "trace"]
    assert list(trace.tiers) == [2, 1]
    assert list(trace.arrivals) == [0, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "the file is empty"),
        ([HEADER], "no requests"),
        (["a,b", "1,2"], "line 1: no column TIMESTAMP, ContextTokens, GeneratedTokens"),
        ([HEADER, GOOD, "2023-11-16 18:17:09,1"], "line 3: 2 fields"),
        ([HEADER, GOOD, "", "2023-11-16 18:17:09,1,x"], "line 4: GeneratedTokens 'x' is not"),
        ([HEADER, "2023-11-16 18:17:09,-1,5"], "line 2: ContextTokens is -1; expected 0 to"),
        ([HEADER, "2023-11-16 18:17:09,1,0"], "line 2: GeneratedTokens is 0; expected 1 to"),
        ([HEADER, "2023-11-16 18:17:09,1,1e9"], "line 2: GeneratedTokens '1e9' is not a whole"),
        ([HEADER, "2023-11-16 18:17:09,99999999999,1"], "line 2: ContextTokens is 99999999999"),
        ([HEADER, "yesterday,1,1"], "line 2: TIMESTAMP 'yesterday' is not a time"),
        ([HEADER, "2023-11-16 18:17:09.,1,1"], "line 2: TIMESTAMP"),
        ([HEADER, GOOD, "2023-11-16 18:17:03,1,1"], "line 3: TIMESTAMP is 0.980 s before"),
        ([HEADER + ",Tier", GOOD + ",gold"], "line 2: Tier 'gold'; expected one of priority"),
        ([HEADER, '"2023-11-16 18:17:09,1,1'], "line 2: not CSV"),
    ],
)
def test_mistake_is_named_with_its_line(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(TraceInvalid, match=message):
        read_trace(write(tmp_path, *lines) if lines else _empty(tmp_path))


def _empty(path: Path) -> Path:
    file = path / "trace.csv"
    file.write_bytes(b"")
    return file


def test_file_that_is_no_text_or_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_bytes(b"TIMESTAMP\xff")
    with pytest.raises(TraceInvalid, match="not UTF-8"):
        read_trace(file)
    with pytest.raises(TraceInvalid, match=r"none\.csv: No such file"):
        read_trace(tmp_path / "none.csv")


def test_seven_digits_of_a_second_are_kept() -> None:
    late, soon = parse_time("2023-11-16 18:17:04.0319609"), parse_time("2023-11-16 18:17:04")

    assert late - soon == pytest.approx(0.0319609, abs=3e-7)


def test_shipped_trace_is_what_its_script_makes() -> None:
    shipped = Path(synthetic.__file__).parent / "traces" / "synthetic.csv"

    assert shipped.read_text() == "".join(line + "\n" for line in synthetic.lines())
    trace = read_trace(shipped)
    assert 3_500 < trace.seconds < 3_600
    assert set(trace.accounts) == set(synthetic.ACCOUNTS)
    assert set(trace.tiers) == {0, 1, 2}


@pytest.mark.parametrize("factor", [0.25, 1, 2.5, 10])
def test_scaling_multiplies_requests_and_keeps_their_course(factor: float) -> None:
    trace = read_trace(Path(synthetic.__file__).parent / "traces" / "synthetic.csv")

    more = scaled(trace, factor, seed=7)

    assert len(more) == pytest.approx(len(trace) * factor, rel=0.06)
    assert list(more.arrivals) == sorted(more.arrivals)
    assert more.seconds == pytest.approx(trace.seconds, abs=60)
    half = trace.seconds / 2
    early = sum(at < half for at in more.arrivals) / len(more)
    assert early == pytest.approx(sum(at < half for at in trace.arrivals) / len(trace), abs=0.03)
    assert scaled(trace, factor, seed=7) == more


@pytest.mark.parametrize("factor", [0, -1, float("nan"), 2e6])
def test_scale_that_makes_no_sense_is_refused(factor: float) -> None:
    trace = read_trace(Path(synthetic.__file__).parent / "traces" / "synthetic.csv")

    with pytest.raises(TraceInvalid, match="scale: expected"):
        scaled(trace, factor, seed=7)
