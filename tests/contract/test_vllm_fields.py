"""Every field of vLLM's request models is served, ignored or refused on purpose."""

from typing import Any

import pytest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest as VllmCompletion
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

from tests.contract.driver import Driver, chat
from wire.schemas.chat import ChatRequest
from wire.schemas.completions import CompletionRequest
from wire.schemas.responses import ResponseRequest

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::FutureWarning:vllm.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:xgrammar.*"),
]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (ChatCompletionRequest, ChatRequest),
        (VllmCompletion, CompletionRequest),
        (ResponsesRequest, ResponseRequest),
    ],
)
def test_every_field_of_vllm_is_known(theirs: Any, ours: Any) -> None:
    assert set(theirs.model_fields) <= {*ours.model_fields, *ours.unsupported_fields}


@pytest.mark.asyncio(loop_scope="session")
async def test_prompts_with_different_salts_share_no_cache(vllm: Driver) -> None:
    text = "Tell me of the salt that a river carries to the sea. " * 30

    async def cached(salt: str) -> int:
        outputs = (await vllm.run(chat(text, cache_salt=salt, max_tokens=2))).outputs
        return max(output.cached_input_tokens or 0 for output in outputs)

    assert await cached("one") == 0
    assert await cached("one") > 0
    assert await cached("two") == 0
