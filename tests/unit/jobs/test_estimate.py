"""What a request is charged as before it has run."""

from typing import Any

import pytest

from jobs.fairness import CONSTRAINT_TOKENS, estimated_tokens

PLAIN = {"max_tokens": 10, "n": 3}


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"choice": ["a"]}},
        {"response_format": {"type": "json_object"}},
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
    ],
    ids=str,
)
def test_a_constraint_on_the_output_is_charged(fields: dict[str, Any]) -> None:
    assert estimated_tokens({**PLAIN, **fields}, 40) == 10 + 30 + CONSTRAINT_TOKENS


def test_each_prompt_of_a_list_is_charged_for_its_choices_and_its_text_once() -> None:
    assert estimated_tokens({**PLAIN, "prompt": ["a", "b"]}, 40) == 10 + 60
    assert estimated_tokens({**PLAIN, "prompt": [[1, 2], [3]]}, 40) == 10 + 60
    assert estimated_tokens({**PLAIN, "prompt": [1, 2]}, 40) == 10 + 30


def test_a_prompt_without_output_is_charged_for_its_text() -> None:
    assert estimated_tokens({"prompt": "a", "echo": True, "max_tokens": 0}, 40) == 10


@pytest.mark.parametrize(
    "fields", [{}, {"response_format": {"type": "text"}}, {"tool_choice": "auto"}]
)
def test_each_choice_is_charged_and_nothing_else(fields: dict[str, Any]) -> None:
    assert estimated_tokens({**PLAIN, **fields}, 40) == 10 + 30
