"""Chooses vLLM's parser for tool calls from what is known of the model.

Models write tool calls in a format of their own. The chat template shows it, since it writes the
calls of earlier turns; where it does not, the architecture tells. Invariant: the choice is always a
parser that the installed vLLM has.
"""

from collections.abc import Collection
from dataclasses import dataclass

from core.errors import EngineDead

#: The setting's value for a model that must not call tools.
NONE = "none"

#: Texts of a chat template -> parser; the first row whose texts all occur decides.
TEMPLATES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("<|tool_calls_section_begin|>",), "kimi_k2"),
    (("<\uff5ctool\u2581calls\u2581begin\uff5c>", "```json"), "deepseek_v3"),
    (("<\uff5ctool\u2581calls\u2581begin\uff5c>",), "deepseek_v31"),
    (("<minimax:tool_call>",), "minimax_m2"),
    (("<seed:tool_call>",), "seed_oss"),
    (("<longcat_tool_call>",), "longcat"),
    (("<tool_call>", "<arg_key>"), "glm45"),
    (("<tool_call>", "<function="), "qwen3_coder"),
    (("<start_function_call>",), "functiongemma"),
    (("[TOOL_CALLS]",), "mistral"),
    (("<|tool_call_start|>",), "lfm2"),
    (("<|tool_call|>", "<|start_of_role|>"), "granite"),
    (("<function_calls>", "<functions>"), "olmo3"),
    (("functools[",), "phi4_mini_json"),
    (('{"name": function name, "parameters":',), "llama3_json"),
    (("<tool_call>",), "hermes"),
)

#: Architecture -> parser, for models whose template does not show how calls are written.
ARCHITECTURES = {
    "ApertusForCausalLM": "apertus",
    "DeepseekV32ForCausalLM": "deepseek_v32",
    "DeepseekV4ForCausalLM": "deepseek_v4",
    "Ernie4_5_MoeForCausalLM": "ernie45",
    "GptOssForCausalLM": "openai",
    "HunYuanMoEV1ForCausalLM": "hunyuan_a13b",
    "InternLM2ForCausalLM": "internlm",
    "JambaForCausalLM": "jamba",
    "KimiK25ForConditionalGeneration": "kimi_k2",
    "Llama4ForConditionalGeneration": "llama4_pythonic",
    "MiniMaxM2ForCausalLM": "minimax_m2",
    "MistralForCausalLM": "mistral",
    "Mistral3ForConditionalGeneration": "mistral",
    "Olmo3ForCausalLM": "olmo3",
    "SeedOssForCausalLM": "seed_oss",
    "Step3VLForConditionalGeneration": "step3",
}


@dataclass(frozen=True, slots=True)
class ChosenParser:
    """A parser and what it was chosen by: `setting`, `chat template`, `architecture`."""

    name: str | None
    source: str


def choose_tool_parser(
    setting: str | None,
    template: str | None,
    architectures: Collection[str],
    installed: Collection[str],
) -> ChosenParser:
    """Choose the parser for a model's tool calls.

    Args:
        setting: `engine.tool_parser`; None to choose by the model.
        template: The model's chat template; None if it has none.
        architectures: The model's architectures, as its configuration names them.
        installed: The parsers that vLLM has.

    Returns:
        The parser; without a name if none is known, or none is wanted.

    Raises:
        EngineDead: the setting names a parser that vLLM does not have.
    """
    if setting is not None:
        if setting == NONE:
            return ChosenParser(None, "setting")
        if setting not in installed:
            known = ", ".join(sorted(installed))
            raise EngineDead(
                f"PENSTOCK_ENGINE__TOOL_PARSER: unknown parser {setting!r}; vLLM has: {known}"
            )
        return ChosenParser(setting, "setting")
    for texts, name in TEMPLATES:
        if template and name in installed and all(text in template for text in texts):
            return ChosenParser(name, "chat template")
    for architecture in architectures:
        found = ARCHITECTURES.get(architecture)
        if found is not None and found in installed:
            return ChosenParser(found, "architecture")
    return ChosenParser(None, "model")
