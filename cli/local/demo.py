"""The demo: submits two jobs, streams one, polls the other, and prints what to try next.

Invariant: it uses only the public API, and returns only if each job completed with text.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.connect.api_client import Client
from cli.connect.job_progress import TERMINAL, outcome, place, stream_text, text_of
from cli.connect.state_dir import StateDir
from cli.terminal.failures import Failure
from cli.terminal.plain_console import Part, styled

STORY = "Tell me a long story about a river."
ESSAY = "Write a long essay about a penstock."
MAX_TOKENS = 96
POLL_SECONDS = 0.3
POLLS = 400
INDENT = " " * 9


def run_demo(client: Client, model: str, console: Console) -> list[dict[str, Any]]:
    """Submit a job and stream it, submit another and poll it; return both completed jobs.

    Raises:
        Failure: a request failed, or a job did not complete.
    """
    job = _submit(client, model, STORY, console)
    path = f"/v1/jobs/{job['id']}"
    title(console, "stream", f"GET {path}/stream")
    printed = _stream(client, job["id"], console)
    streamed = client.get(path)
    _check(streamed, console, printed)

    console.print()
    job = _submit(client, model, ESSAY, console)
    path = f"/v1/jobs/{job['id']}"
    title(console, "poll", f"GET {path}")
    job = _poll(client, path, console)
    text = text_of(job)
    _check(job, console, text)
    line(console, (f"{text.partition('. ')[0]}...", "cyan"))
    return [streamed, job]


def _submit(client: Client, model: str, prompt: str, console: Console) -> dict[str, Any]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
    }
    title(console, "submit", "POST /v1/jobs  ", (f'"{prompt}"', "dim"))
    job = client.post("/v1/jobs", {"url": "/v1/chat/completions", "body": body})
    line(console, f"202 Accepted: {job['id']}, {place(job)}")
    return job


def _stream(client: Client, job_id: str, console: Console) -> str:
    """Print the text while it is generated, and return it."""
    pieces: list[str] = []

    def write(text: str) -> None:
        if not pieces:
            console.print(INDENT, end="")
        pieces.append(text)
        shown = text.replace("\n", f"\n{INDENT}")
        console.print(styled((shown, "cyan")), end="", soft_wrap=True)
        console.file.flush()

    stream_text(client, job_id, 0, write, console.print)
    console.print()
    return "".join(pieces).strip()


def _poll(client: Client, path: str, console: Console) -> dict[str, Any]:
    """Poll until the job has ended, and print each answer; return the job."""
    for _ in range(POLLS):
        job = client.get(path)
        if job["status"] in TERMINAL:
            return job
        tokens = f" · {job['usage']['output_tokens']} tokens so far"
        line(console, (place(job), "cyan"), tokens)
        time.sleep(POLL_SECONDS)
    raise Failure("the polled job did not end", f"it is at {path}")


def _check(job: dict[str, Any], console: Console, text: str) -> None:
    line(console, outcome(job))
    if job["status"] != "completed" or not text or not job["usage"]["output_tokens"]:
        error = job.get("error") or {}
        raise Failure(f"the job {job['status']}", str(error.get("detail", "it has no text")))


def title(console: Console, name: str, *parts: Part) -> None:
    """Print the heading of a step."""
    console.print(styled((f"{name:<8}", "bold"), " ", *parts), soft_wrap=True)


def line(console: Console, *parts: Part) -> None:
    """Print a line below it."""
    console.print(styled(INDENT, *parts), soft_wrap=True)


def print_next(client: Client, model: str, state_dir: StateDir, console: Console) -> None:
    """Print commands to try in another terminal."""
    key = f"$(cat {state_dir.key_file})"
    curl = f"""curl -N {client.url}/v1/chat/completions \\
       -H "Authorization: Bearer {key}" -H 'Content-Type: application/json' \\
       -d '{{"model": "{model}", "stream": true,
            "messages": [{{"role": "user", "content": "What is a dam?"}}]}}'"""
    python = f"""from openai import OpenAI  # in Python, with the official client
  key = open("{state_dir.key_file}").read().strip()
  client = OpenAI(base_url="{client.url}/v1", api_key=key)
  messages = [{{"role": "user", "content": "What is a queue?"}}]
  answer = client.chat.completions.create(model="{model}", messages=messages)
  print(answer.choices[0].message.content)"""
    penstock = _program()
    console.print(styled(("\nTry next", "bold"), ", in another terminal in this directory:\n"))
    for text in (
        f'{penstock} jobs submit "What is a turbine?" --stream',
        f"{penstock} jobs list",
        f'curl {client.url}/v1/jobs -H "Authorization: Bearer {key}"',
        curl,
        python,
    ):
        console.print(f"  {text}\n", soft_wrap=True)


def _program() -> str:
    """Return the shortest command that runs this program from this directory."""
    program = Path(sys.argv[0])
    if program.parent in map(Path, os.environ.get("PATH", "").split(os.pathsep)):
        return program.name
    here = Path.cwd()
    return str(program.relative_to(here) if program.is_relative_to(here) else program)
