"""The CLI's HTTP client against a scripted server: errors, and streams that break off."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer
from typer.testing import CliRunner

from cli.connect import api_client as client_module
from cli.connect.api_client import Client
from cli.connect.state_dir import PipelineState, StateDir
from cli.main import NOUNS, app
from cli.terminal.failures import Refused, Unreachable, UsageError

Handler = Callable[[httpx2.Request], httpx2.Response]

FILE = "requests.jsonl"


def commands_with_url() -> Iterator[list[str]]:
    """Yield the words of every command that takes `--url`, with an argument where one is needed."""
    group: Any = typer.main.get_command(app)
    for noun in NOUNS:
        command = group.get_command(None, noun)
        for words, one in [
            ([noun], command),
            *(([noun, name], each) for name, each in getattr(command, "commands", {}).items()),
        ]:
            if any(param.name == "url" for param in one.params):
                yield [*words, *(FILE for param in one.params if param.required)]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "RECONNECT_SECONDS", 0.0)


def scripted(handler: Handler) -> Client:
    made = Client("http://server.test/", "pk_test")
    made._http = httpx2.Client(
        base_url=made.url, headers=made._http.headers, transport=httpx2.MockTransport(handler)
    )
    return made


class Breaking(httpx2.SyncByteStream):
    """A body whose connection breaks after some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self._data
        raise httpx2.ReadError("connection reset")


def sse(*events: tuple[int, str, str], broken: bool = False) -> httpx2.Response:
    text = "retry: 2000\n\n: ping\n\n"
    text += "".join(f"id: {seq}\nevent: {kind}\ndata: {data}\n\n" for seq, kind, data in events)
    headers = {"Content-Type": "text/event-stream; charset=utf-8"}
    if broken:
        return httpx2.Response(200, headers=headers, stream=Breaking(text.encode()))
    return httpx2.Response(200, headers=headers, text=text)


def test_key_is_sent_and_parameters_that_are_none_are_not() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["Authorization"] == "Bearer pk_test"
        assert str(request.url) == "http://server.test/v1/jobs?limit=3"
        return httpx2.Response(200, json={"data": []})

    assert scripted(handler).get("/v1/jobs", limit=3, status=None) == {"data": []}


def test_refusal_carries_the_servers_problem() -> None:
    client = scripted(lambda _: httpx2.Response(404, json={"title": "Job not found"}))

    with pytest.raises(Refused, match=r"Job not found \(HTTP 404\)"):
        client.get("/v1/jobs/job_1")


def test_server_that_does_not_answer_is_unreachable() -> None:
    def handler(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with pytest.raises(Unreachable, match=r"no server answers at http://server\.test"):
        scripted(handler).get("/v1/jobs")


def test_broken_stream_goes_on_after_the_last_event() -> None:
    seen: list[str | None] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers.get("Last-Event-ID"))
        if len(seen) == 1:
            return sse((1, "started", "{}"), (2, "delta", '{"text": "a"}'), broken=True)
        return sse((3, "delta", '{"text": "b\u2028c"}'), (4, "finished", '{"status": "completed"}'))

    events = list(scripted(handler).stream("/v1/jobs/job_1/stream"))

    assert seen == [None, "2"]
    assert [event.seq for event in events] == ["1", "2", "3", "4"]
    assert events[2].data == {"text": "b\u2028c"}


def test_closing_server_is_asked_again() -> None:
    answers = iter(
        [
            sse((1, "started", "{}"), (1, "error", '{"status": 503, "title": "closing"}')),
            httpx2.Response(503, json={"title": "closing"}),
            sse((2, "finished", '{"status": "completed"}')),
        ]
    )

    events = list(scripted(lambda _: next(answers)).stream("/v1/jobs/job_1/stream"))

    assert [event.type for event in events] == ["started", "finished"]


def test_stream_that_keeps_breaking_is_given_up() -> None:
    calls: list[int] = []

    def handler(_: httpx2.Request) -> httpx2.Response:
        calls.append(1)
        return sse((1, "started", "{}"), broken=True) if len(calls) == 1 else broken_at_once()

    def broken_at_once() -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with pytest.raises(Unreachable, match="broke off"):
        list(scripted(handler).stream("/v1/jobs/job_1/stream"))
    assert len(calls) == 1 + client_module.RECONNECTS - 1


def test_refused_stream_is_not_repeated() -> None:
    client = scripted(lambda _: httpx2.Response(410, json={"title": "Job gone"}))

    with pytest.raises(Refused, match="Job gone"):
        list(client.stream("/v1/jobs/job_1/stream"))


def test_without_a_server_it_asks_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match="no pipeline runs"):
        Client.open(None, None)


def test_pipeline_of_this_directory_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state_dir = StateDir()
    state_dir.write_state(PipelineState(os.getpid(), "http://127.0.0.1:7", "", "", "", {}))
    state_dir.key_file.write_text("pk_dev\n")

    opened, other = Client.open(None, None), Client.open("http://elsewhere.test", "pk_1")

    assert (opened.url, opened.key) == ("http://127.0.0.1:7", "pk_dev")
    assert (other.url, other.key) == ("http://elsewhere.test", "pk_1")


@pytest.mark.parametrize(
    "url",
    [
        "http://elsewhere.test",
        "http://127.0.0.1:8",
        "http://localhost:7",
        "http://127.0.0.1:7@elsewhere.test",
        "http://me:hunter2@elsewhere.test",
    ],
)
def test_key_of_this_directory_is_not_sent_to_another_server(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state_dir = StateDir()
    state_dir.write_state(PipelineState(os.getpid(), "http://127.0.0.1:7", "", "", "", {}))
    state_dir.key_file.write_text("pk_dev\n")

    with pytest.raises(UsageError, match="--key or PENSTOCK_API_KEY") as refused:
        Client.open(url, None)

    assert "hunter2" not in str(refused.value)
    assert Client.open("http://127.0.0.1:7/", None).key == "pk_dev", "its own server"


def test_key_is_not_sent_to_what_took_the_port_of_a_pipeline_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    state_dir = StateDir()
    state_dir.write_state(PipelineState(ended.pid, "http://127.0.0.1:7", "", "", "", {}))
    state_dir.key_file.write_text("pk_dev\n")

    with pytest.raises(UsageError, match="no pipeline runs"):
        Client.open(None, None)
    with pytest.raises(UsageError, match=r"a key for http://127\.0\.0\.1:7 is needed"):
        Client.open("http://127.0.0.1:7", None)


@pytest.mark.parametrize("words", list(commands_with_url()), ids=" ".join)
def test_no_command_sends_the_key_of_this_directory_to_another_server(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(FILE).write_text("{}\n")
    state_dir = StateDir()
    state_dir.write_state(PipelineState(os.getpid(), "http://127.0.0.1:7", "", "", "", {}))
    state_dir.key_file.write_text("pk_dev\n")
    monkeypatch.setenv("PENSTOCK_URL", "http://127.0.0.1:8")

    result = CliRunner().invoke(app, words, input="y\n")

    assert result.exit_code == 2, result.output
    assert "--key or PENSTOCK_API_KEY" in result.output
