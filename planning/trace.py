"""A workload trace: arrival time, prompt length, output length and account of each request.

Files are CSV with the columns of the Azure LLM inference traces (TIMESTAMP, ContextTokens,
GeneratedTokens); the optional columns Account and Tier are used for fair share and service tiers.
Invariant: arrivals never decrease, and every number lies within its bounds.
"""

import csv
import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.fairness import ServiceTier
from planning.errors import TraceInvalid

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
OPTIONAL = ("Account", "Tier")
ACCOUNT = "trace"

#: More than any model's context; a larger number is an error in the file.
MAX_TOKENS = 10_000_000
#: Copies of a request are delayed by up to this, so that they do not arrive as one burst.
SPREAD_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One line of a trace file; `at` is in seconds, `input` and `output` are in tokens."""

    at: float
    input: int
    output: int
    account: str = ACCOUNT
    tier: int = ServiceTier.DEFAULT.rank


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of their arrival; the n-th entry of each column is one request."""

    arrivals: Sequence[float]  # seconds since the first one
    inputs: Sequence[int]
    outputs: Sequence[int]
    accounts: Sequence[str]
    tiers: Sequence[int]

    def __len__(self) -> int:
        return len(self.arrivals)

    @property
    def seconds(self) -> float:
        """Seconds from the first arrival to the last."""
        return self.arrivals[-1]

    @property
    def tokens(self) -> int:
        """Input and output tokens of all requests."""
        return sum(self.inputs) + sum(self.outputs)

    def requests(self) -> Iterator[TraceRequest]:
        """Yield the requests one by one."""
        columns = (self.arrivals, self.inputs, self.outputs, self.accounts, self.tiers)
        return map(TraceRequest, *columns)


def as_trace(requests: Sequence[TraceRequest]) -> Trace:
    """Return a trace of requests that are in order of time; the first one arrives at 0."""
    start = requests[0].at
    return Trace(
        arrivals=array("d", (request.at - start for request in requests)),
        inputs=array("q", (request.input for request in requests)),
        outputs=array("q", (request.output for request in requests)),
        accounts=[request.account for request in requests],
        tiers=array("b", (request.tier for request in requests)),
    )


def read_trace(path: Path) -> Trace:
    """Read a CSV file.

    Raises:
        TraceInvalid: naming the line and what was expected there.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            requests = list(_requests(csv.reader(file, strict=True), path))
    except OSError as error:
        raise TraceInvalid(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TraceInvalid(f"{path}: not UTF-8 text (byte {error.start})") from error
    if not requests:
        raise TraceInvalid(f"{path}: no requests; expected lines under {','.join(COLUMNS)}")
    return as_trace(requests)


def scaled(trace: Trace, factor: float, seed: int) -> Trace:
    """Return a trace with `factor` times as many requests and the same course over time.

    Each request is repeated, with copies up to SPREAD_SECONDS later. The fractional part of the
    factor keeps that share of the requests, chosen by `seed`.
    """
    if not 0 < factor <= 1_000_000:
        raise TraceInvalid(f"scale: expected a number above 0 and at most 1,000,000, got {factor}")
    if factor == 1:
        return trace
    chance = random.Random(seed)
    whole, part = divmod(factor, 1)
    requests = []
    for request in trace.requests():
        for copy in range(int(whole) + (chance.random() < part)):
            later = chance.uniform(0, SPREAD_SECONDS) if copy else 0.0
            requests.append(replace(request, at=request.at + later))
    if not requests:
        raise TraceInvalid(f"scale: {factor} leaves none of {len(trace)} requests")
    return as_trace(sorted(requests, key=lambda request: request.at))


def parse_time(text: str) -> float:
    """Return the Unix seconds of an ISO time, which may have more than six fractional digits."""
    main, dot, rest = text.strip().partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    stamp = datetime.fromisoformat(main + rest[len(digits) :])
    if dot and not digits:
        raise ValueError(text)
    if stamp.tzinfo is None:
        stamp = stamp.replace(tzinfo=UTC)
    return stamp.timestamp() + float(f"0.{digits or 0}")


def _requests(rows: Any, path: Path) -> Iterator[TraceRequest]:
    last = float("-inf")
    try:
        places = _header(rows, path)
        for row in rows:
            if not row:
                continue
            where = f"{path}, line {rows.line_num}"
            request = _request(row, places, where)
            if request.at < last:
                raise TraceInvalid(
                    f"{where}: TIMESTAMP is {last - request.at:.3f} s before the "
                    "line above; expected lines in order of time"
                )
            last = request.at
            yield request
    except csv.Error as error:
        raise TraceInvalid(f"{path}, line {rows.line_num}: not CSV: {error}") from error


def _header(rows: Any, path: Path) -> dict[str, int]:
    names = [name.strip() for name in next(rows, [])]
    places = {name: names.index(name) for name in (*COLUMNS, *OPTIONAL) if name in names}
    missing = [name for name in COLUMNS if name not in places]
    if not names:
        raise TraceInvalid(f"{path}: the file is empty; expected a line {','.join(COLUMNS)}")
    if missing:
        raise TraceInvalid(
            f"{path}, line 1: no column {', '.join(missing)}; found {', '.join(names)[:200]}"
        )
    return places


def _request(row: list[str], places: dict[str, int], where: str) -> TraceRequest:
    if len(row) <= max(places.values()):
        raise TraceInvalid(f"{where}: {len(row)} fields; expected at least {len(places)}")
    try:
        at = parse_time(row[places["TIMESTAMP"]])
    except ValueError:
        text = row[places["TIMESTAMP"]][:40]
        raise TraceInvalid(
            f"{where}: TIMESTAMP {text!r} is not a time; expected e.g. 2023-11-16 18:17:03.9799600"
        ) from None
    return TraceRequest(
        at,
        _tokens(row[places["ContextTokens"]], 0, f"{where}: ContextTokens"),
        _tokens(row[places["GeneratedTokens"]], 1, f"{where}: GeneratedTokens"),
        row[places["Account"]].strip() or ACCOUNT if "Account" in places else ACCOUNT,
        _tier(row[places["Tier"]], where) if "Tier" in places else ServiceTier.DEFAULT.rank,
    )


def _tokens(text: str, least: int, where: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise TraceInvalid(f"{where} {text[:40]!r} is not a whole number") from None
    if not least <= value <= MAX_TOKENS:
        raise TraceInvalid(f"{where} is {value}; expected {least} to {MAX_TOKENS:,}")
    return value


def _tier(text: str, where: str) -> int:
    try:
        return ServiceTier(text.strip() or ServiceTier.DEFAULT).rank
    except ValueError:
        names = ", ".join(ServiceTier)
        raise TraceInvalid(f"{where}: Tier {text[:40]!r}; expected one of {names}") from None
