"""Engines that embed: one vector per input, the same in every batch."""

import base64
from array import array
from typing import Any

import pytest
import pytest_asyncio

from core.errors import ContextLengthExceeded, InvalidJob
from tests.contract.conftest import Engines
from tests.contract.driver import Driver

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::FutureWarning:vllm.*"),
]
ENGINES = [pytest.param("embedding", marks=pytest.mark.slow), "simulated embedding"]


@pytest_asyncio.fixture(loop_scope="session", params=ENGINES)
async def embedder(request: pytest.FixtureRequest, engines: Engines) -> Driver:
    return await engines.get(request.param)


async def embedded(driver: Driver, given: Any, **options: Any) -> tuple[int, list[list[float]]]:
    """Return how many tokens went in, and the vectors that came out."""
    name = await driver.add({"model": "m", "input": given}, **options)
    many = isinstance(given, list) and not isinstance(given[0], int)
    left = (len(given) if many else 1) - len(options.get("finished", ()))
    job = await driver.ended(name, left)
    assert job.error is None
    assert job.accepted is not None
    vectors = []
    for _, choice in sorted(job.choices.items()):
        (output,) = choice.outputs
        assert (list(output.token_ids), output.text, output.finish_reason) == ([], "", "stop")
        assert output.delta is not None
        vectors.append(array("f", base64.b64decode(output.delta["embedding"])).tolist())
    return job.accepted.input_tokens, vectors


def close(one: list[float], other: list[float]) -> bool:
    """Two batches may round differently."""
    return one == pytest.approx(other, abs=0.02)


async def test_a_text_has_the_same_vector_alone_and_among_others(embedder: Driver) -> None:
    assert embedder.info.task == "embed"
    alone, (vector,) = await embedded(embedder, "The mill stands at the river.")
    texts = ["The mill stands at the river.", "A lake.", "The mill stands at the river."]
    together, vectors = await embedded(embedder, texts)
    assert len({len(one) for one in vectors}) == 1
    assert close(vectors[0], vector)
    assert close(vectors[2], vector)
    assert not close(vectors[1], vector)
    assert together > 2 * alone


async def test_tokens_are_counted_and_embedded(embedder: Driver) -> None:
    tokens, (first,) = await embedded(embedder, [5, 6, 7])
    assert tokens == 3
    _, (_, second) = await embedded(embedder, [[8, 9], [5, 6, 7]])
    assert close(first, second)


async def test_a_second_attempt_makes_only_what_is_missing(embedder: Driver) -> None:
    texts = ["one", "two", "three"]
    whole, vectors = await embedded(embedder, texts)
    tokens, rest = await embedded(embedder, texts, finished=frozenset({0, 2}))
    assert tokens == whole
    assert len(rest) == 1
    assert close(rest[0], vectors[1])


@pytest.mark.slow
async def test_what_the_model_cannot_embed_names_the_field(engines: Engines) -> None:
    driver = await engines.get("embedding")
    with pytest.raises(ContextLengthExceeded) as long:
        await driver.add({"model": "m", "input": ["short", "word " * 5_000]})
    assert long.value.param == "input"
    with pytest.raises(InvalidJob) as fixed:
        await driver.add({"model": "m", "input": "x", "dimensions": 3})
    assert fixed.value.param == "dimensions"
    with pytest.raises(InvalidJob):
        await driver.add({"model": "m", "prompt": "x", "max_tokens": 1})
    assert (await driver.idle()).running == 0
