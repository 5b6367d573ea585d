"""The warm-up's requests to an engine, their order, and failures."""

from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from core.errors import EngineDead, EngineError, InvalidJob
from workers.engines.base import EngineInfo, Generation, Output, Task
from workers.engines.vllm import warmup
from workers.engines.vllm.warmup import OwnGeneration, WarmUp


class Recorder:
    """Answers each batch immediately and keeps it; raises `error` for the batch with that field."""

    def __init__(self, error: Exception | None = None, field: str = "") -> None:
        self.batches: list[tuple[Sequence[Generation], bool]] = []
        self._error = error
        self._field = field

    async def __call__(
        self, generations: Sequence[Generation], *, cancel: bool = False
    ) -> Sequence[OwnGeneration]:
        self.batches.append((generations, cancel))
        answers = []
        for generation in generations:
            if self._error is not None and self._field in generation.body:
                raise self._error
            answer = OwnGeneration()
            answer.take(Output(generation.id, 0, [7], "river", finish_reason="length"))
            answers.append(answer)
        return answers

    def lengths(self, batch: int) -> list[int]:
        bodies = [generation.body for generation in self.batches[batch][0]]
        prompts = [p for body in bodies for p in body.get("input") or [body["prompt"]]]
        return [len(prompt) for prompt in prompts]


def info(context: int = 2048, slots: int = 8, threads: int = 4, task: Task = "generate") -> Any:
    return EngineInfo("vllm", "m", context, slots, "cpu", task, "vec", "_C", threads)


async def warm(recorder: Recorder, engine: EngineInfo) -> dict[str, Any]:
    """Run the warm-up; return the figures it logs."""
    with capture_logs() as logs:
        await WarmUp(recorder, engine, [3, 4, 5]).run()
    (figures,) = [entry for entry in logs if entry["event"] == "engine_warm"]
    return dict(figures)


async def test_the_first_batch_has_a_long_prompt_for_every_thread() -> None:
    recorder = Recorder()
    await warm(recorder, info(threads=6))

    assert recorder.lengths(0) == [64] * 6
    prompts = [tuple(generation.body["prompt"]) for generation in recorder.batches[0][0]]
    assert len(set(prompts[:3])) == 3  # else a prefix cache would answer


async def test_every_kind_of_work_is_run_and_its_time_logged() -> None:
    recorder = Recorder()
    figures = await warm(recorder, info())

    bodies = [generation.body for batch, _ in recorder.batches for generation in batch]
    assert set(recorder.lengths(1)) >= {1, 2, 3, 4, 5, 64}
    assert {body["temperature"] for body in bodies} == {0, 0.8}
    assert [body["stop"] for body in bodies if "stop" in body] == [["r"]]
    assert sum("structured_outputs" in body for body in bodies) == 1
    assert [cancelled for _, cancelled in recorder.batches] == [False] * 21 + [True]
    assert list(figures["parts"]) == [
        "long prompts",
        "prompts of several lengths",
        "stop string",
        "grammar",
        "log probabilities",
        "sampling",
        "choices",
        "prefix cache",
        "cancel",
    ]
    asked = set().union(*(body.keys() for body in bodies))
    assert {"logprobs", "presence_penalty", "seed", "top_k", "top_p", "min_p", "n"} <= asked
    repeated = [body["prompt"] for body in bodies if len(body["prompt"]) > 64]
    assert repeated[0] == repeated[1], "the second comes from the prefix cache"
    assert figures["refused"] == []
    assert figures["threads"] == 4
    lengths = [
        length for batch in range(len(recorder.batches)) for length in recorder.lengths(batch)
    ]
    assert figures["tokens"] == sum(lengths) + len(bodies)


async def test_a_small_context_bounds_every_prompt() -> None:
    recorder = Recorder()
    await warm(recorder, info(context=16))

    for batch, _ in recorder.batches:
        for generation in batch:
            body = generation.body
            assert len(body["prompt"]) >= 1
            assert len(body["prompt"]) + body["max_tokens"] <= 16
    assert min(recorder.lengths(0)) > 4


async def test_a_model_that_embeds_gets_inputs_of_several_lengths() -> None:
    recorder = Recorder()
    figures = await warm(recorder, info(context=32, task="embed", slots=2))

    assert recorder.lengths(0) == [32, 32]
    assert set(recorder.lengths(1)) >= {1, 2, 3, 4, 5, 32}
    assert [cancelled for _, cancelled in recorder.batches] == [False, False, True]
    assert list(figures["parts"]) == ["long inputs", "inputs of several lengths", "cancel"]


@pytest.mark.parametrize("error", [EngineError("no kernel"), EngineDead("no kernel")])
async def test_a_part_that_fails_ends_the_start_and_is_named(error: Exception) -> None:
    recorder = Recorder(error, "structured_outputs")

    with pytest.raises(EngineDead, match=r"the warm-up failed: grammar: no kernel"):
        await warm(recorder, info())
    assert len(recorder.batches) == 4


async def test_what_a_model_cannot_do_is_logged_and_the_rest_is_run() -> None:
    recorder = Recorder(InvalidJob("no grammars here"), "structured_outputs")
    figures = await warm(recorder, info())

    assert figures["refused"] == ["grammar"]
    assert len(recorder.batches) == 22


async def test_a_part_without_an_end_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(
        generations: Sequence[Generation], *, cancel: bool = False
    ) -> list[OwnGeneration]:
        await OwnGeneration().ended.wait()
        return []

    monkeypatch.setattr(warmup, "PART_SECONDS", 0.01)
    with pytest.raises(EngineDead, match=r"long prompts: no end within"):
        await WarmUp(silent, info(), [3]).run()


def test_an_answer_ends_with_its_last_choice_or_its_first_error() -> None:
    answer = OwnGeneration()
    answer.choices = 2
    answer.take(Output("a", 0, [1], "x", finish_reason="stop"))
    assert not answer.ended.is_set()
    answer.take(Output("a", 1, [2, 3], "y", finish_reason="stop"))
    assert answer.ended.is_set()
    assert (answer.text, answer.tokens, answer.error) == ("xy", 3, None)

    failed, error = OwnGeneration(), EngineError("broken")
    failed.take(Output("b", 0, [], "", error=error))
    assert failed.ended.is_set()
    assert failed.error is error
