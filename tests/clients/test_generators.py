"""Clients that are generated from the OpenAPI document compile and call the API."""

import compileall
import os
import subprocess
import sys
from pathlib import Path

import httpx2
import orjson
import pytest

from tests.clients.conftest import Service
from tests.clients.test_node import HERE as NODE
from tests.clients.test_node import run
from tests.support.programs import program, require
from tests.support.simulated import MODEL

PYTHON = Path(__file__).parent / "generator" / ".venv" / "bin"
CALL = """
import os, sys
sys.path.insert(0, sys.argv[1])
from penstock_client import AuthenticatedClient
from penstock_client.api.openai import create_chat_completion_v1_chat_completions_post as chat
from penstock_client.api.openai import list_models_v1_models_get as models
from penstock_client.models import ChatRequest
client = AuthenticatedClient(os.environ["PENSTOCK_URL"], os.environ["PENSTOCK_KEY"])
body = {"model": os.environ["PENSTOCK_MODEL"], "max_tokens": 4,
        "messages": [{"role": "user", "content": "Hello"}]}
answer = chat.sync(client=client, body=ChatRequest.from_dict(body))
listed = models.sync(client=client)
print(answer.usage.completion_tokens, listed.data[0].id)
"""


@pytest.fixture(scope="module")
def document(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document as the API serves it."""
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_bytes(httpx2.get(service.url.removesuffix("/v1") + "/openapi.json").content)
    return path


def access(service: Service) -> dict[str, str]:
    """Return what a generated client needs to know."""
    url = service.url.removesuffix("/v1")
    return {"PENSTOCK_URL": url, "PENSTOCK_KEY": service.key, "PENSTOCK_MODEL": MODEL}


def test_generated_typescript_compiles_and_calls_the_api(
    service: Service, document: Path, tmp_path: Path
) -> None:
    program("npm")
    if not (NODE / "node_modules" / "openapi-typescript").exists():
        run("npm", "ci", "--no-audit", "--no-fund")
    types, sdk, built = tmp_path / "types.ts", tmp_path / "sdk", tmp_path / "built"
    run("npx", "openapi-typescript", str(document), "-o", str(types))
    run("npx", "openapi-ts", "-i", str(document), "-o", str(sdk))
    run(
        *("npx", "tsc", "--strict", "--skipLibCheck", "--rootDir", str(tmp_path)),
        *("--module", "commonjs", "--moduleResolution", "node10", "--target", "es2022"),
        *("--lib", "es2022,dom,dom.iterable", "--outDir", str(built)),
        *(str(types), str(sdk / "index.ts")),
    )
    printed = run("node", "generated.mjs", GENERATED=str(built / "sdk"), **access(service))
    assert orjson.loads(printed) == {"tokens": 4, "status": "completed", "code": "job-not-found"}


def test_generated_python_compiles_and_calls_the_api(
    service: Service, document: Path, tmp_path: Path
) -> None:
    generator = PYTHON / "openapi-python-client"
    require(str(generator) if generator.exists() else None, str(generator))
    out = tmp_path / "client"
    command = [str(generator), "generate", "--path", str(document), "--output-path", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Endpoint" not in done.stdout  # a warning that an endpoint was left out
    assert compileall.compile_dir(out / "penstock_client", quiet=1)
    done = subprocess.run(
        [str(PYTHON / Path(sys.executable).name), "-c", CALL, str(out)],
        env={**os.environ, **access(service)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["4", MODEL]
