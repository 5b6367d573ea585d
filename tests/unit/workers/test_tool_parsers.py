"""The parser for tool calls follows from the model where it is known."""

import importlib.util
import re
from pathlib import Path

import pytest

from core.errors import EngineDead
from core.settings.engine import TINY_MODEL
from workers.engines.vllm.tool_parsers import (
    ARCHITECTURES,
    TEMPLATES,
    ChosenParser,
    choose_tool_parser,
)

ALL = {name for _, name in TEMPLATES} | set(ARCHITECTURES.values())


def installed() -> set[str]:
    """Read the names of vLLM's parsers without importing it."""
    found = importlib.util.find_spec("vllm")
    assert found is not None
    assert found.origin is not None
    text = (Path(found.origin).parent / "tool_parsers" / "__init__.py").read_text()
    return set(re.findall(r'^    "([a-z0-9_-]+)": \(', text, re.MULTILINE))


def test_every_parser_of_the_table_is_in_the_installed_vllm() -> None:
    assert installed() >= ALL


@pytest.mark.parametrize(
    ("template", "architecture", "parser"),
    [
        ("<tool_call>\n{{ call | tojson }}\n</tool_call>", "Qwen3ForCausalLM", "hermes"),
        ("<tool_call>\n<function={{ name }}>", "Qwen3MoeForCausalLM", "qwen3_coder"),
        ("<tool_call>{{ n }}\n<arg_key>{{ k }}</arg_key>", "Glm4MoeForCausalLM", "glm45"),
        ("[TOOL_CALLS]{{ calls }}", "MistralForCausalLM", "mistral"),
        ('Respond in {"name": function name, "parameters": x}', "LlamaForCausalLM", "llama3_json"),
        ("<|tool_calls_section_begin|>", "DeepseekV3ForCausalLM", "kimi_k2"),
        ("{{ messages }}", "GptOssForCausalLM", "openai"),
        (None, "Step3VLForConditionalGeneration", "step3"),
        ("{{ messages }}", "LlamaForCausalLM", None),
        (None, "UnheardOfForCausalLM", None),
    ],
)
def test_a_parser_is_chosen_by_template_then_by_architecture(
    template: str | None, architecture: str, parser: str | None
) -> None:
    assert choose_tool_parser(None, template, [architecture], ALL).name == parser


def test_a_parser_that_vllm_does_not_have_is_not_chosen() -> None:
    chosen = choose_tool_parser(None, "<tool_call>", ["LlamaForCausalLM"], {"mistral"})
    assert chosen == ChosenParser(None, "model")


def test_the_setting_wins_and_can_turn_tools_off() -> None:
    def choose(setting: str) -> ChosenParser:
        return choose_tool_parser(setting, "<tool_call>", [], ALL)

    assert choose("mistral") == ChosenParser("mistral", "setting")
    assert choose("none") == ChosenParser(None, "setting")
    with pytest.raises(EngineDead, match=r"PENSTOCK_ENGINE__TOOL_PARSER: .*'hermess'.*hermes"):
        choose("hermess")


def test_the_shipped_model_can_call_tools() -> None:
    template = (TINY_MODEL / "chat_template.jinja").read_text()
    assert choose_tool_parser(None, template, ["LlamaForCausalLM"], ALL).name == "hermes"
