"""The client of `vllm bench serve` works unchanged: it reads streams without `id:` lines."""

from typing import Any

import pytest

from tests.clients.conftest import Service
from tests.support.simulated import MODEL

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.timeout(180),  # the import of vLLM on a busy machine
    pytest.mark.filterwarnings("ignore::FutureWarning:vllm.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:vllm.*"),
]

TOKENS = 6


@pytest.mark.parametrize(
    ("backend", "path"),
    [("openai", "completions"), ("openai-chat", "chat/completions"), ("vllm", "completions")],
)
async def test_the_client_of_vllms_benchmark_reads_every_token(
    service: Service, monkeypatch: pytest.MonkeyPatch, backend: str, path: str
) -> None:
    import aiohttp
    from vllm.benchmarks.lib import endpoint_request_func as bench

    monkeypatch.setenv("OPENAI_API_KEY", service.key)
    asked: Any = bench.RequestFuncInput(
        prompt="Tell me about the river.",
        api_url=f"{service.url}/{path}",
        prompt_len=5,
        output_len=TOKENS,
        model=MODEL,
        ignore_eos=True,
    )
    async with aiohttp.ClientSession() as session:
        found: Any = await bench.ASYNC_REQUEST_FUNCS[backend](asked, session)
    assert found.success, found.error
    assert found.output_tokens == TOKENS
    assert found.generated_text
