"""Limits on what one request may cost an engine, and on its media."""

from pydantic import Field

from core.settings.base import SettingsGroup


class ComplexitySettings(SettingsGroup):
    """Bounds on what one request makes an engine render, compile and compute for each token.

    The defaults are OpenAI's where it has some that are cheap enough: 1,000 values of enums, 128
    tools. Its 5,000 properties are not: with a vocabulary of 128,000 tokens, xgrammar 0.2.8 needs
    a second of one CPU for 1,000 optional properties, or for 300 numbers with both bounds.
    """

    schema_bytes: int = Field(default=131_072, ge=1, description="Longest JSON schema, in bytes.")
    schema_depth: int = Field(
        default=64, ge=1, le=200, description="Deepest nesting of its objects and arrays."
    )
    schema_parts: int = Field(
        default=1_000, ge=1, description="Most properties, items and alternatives of it together."
    )
    schema_bounded_values: int = Field(
        default=250,
        ge=0,
        description="Most bounded numbers and strings of it: minimum, maxLength and the like.",
    )
    schema_enum_values: int = Field(
        default=1_000, ge=1, description="Most values of its enums together."
    )
    pattern_characters: int = Field(default=4_096, ge=1, description="Longest regular expression.")
    pattern_depth: int = Field(
        default=32,
        ge=1,
        le=200,
        description="Deepest nesting of groups in regular expressions and grammars.",
    )
    pattern_repetitions: int = Field(
        default=10_000,
        ge=1,
        description="Most repetitions of a pattern, written out; also of minLength, maxItems.",
    )
    grammar_bytes: int = Field(default=65_536, ge=1, description="Longest grammar, in bytes.")
    grammar_rules: int = Field(default=500, ge=1, description="Most rules of a grammar.")
    choices: int = Field(
        default=1_000, ge=1, description="Most choices of structured_outputs.choice."
    )
    choice_characters: int = Field(
        default=65_536, ge=1, description="Most characters of them together."
    )
    tools: int = Field(default=128, ge=1, description="Most tools of a request.")
    tools_bytes: int = Field(default=262_144, ge=1, description="Most bytes of them together.")
    stop_strings: int = Field(default=32, ge=1, description="Most stop strings.")
    stop_token_ids: int = Field(default=1_024, ge=1, description="Most stop token ids.")
    bad_words: int = Field(default=128, ge=1, description="Most bad words.")
    bad_word_characters: int = Field(default=256, ge=1, description="Longest bad word.")
    logit_bias_entries: int = Field(default=1_024, ge=1, description="Most tokens with a bias.")
    allowed_token_ids: int = Field(default=16_384, ge=1, description="Most allowed token ids.")
    n: int = Field(default=128, ge=1, le=128, description="Most choices of one request.")
    logprobs: int = Field(
        default=20, ge=0, le=20, description="Most alternatives shown for each token."
    )
    template_bytes: int = Field(
        default=16_384, ge=1, description="Longest chat_template_kwargs, in bytes."
    )


class MediaSettings(SettingsGroup):
    """Images, videos and audio in a request, for models that take them, fetched or sent."""

    parts: int = Field(
        default=16,
        ge=0,
        description="Most images, videos and audio parts of a request, for models that take them.",
    )
    part_bytes: int = Field(
        default=700_000,
        ge=1,
        description="Longest data URL or base64 text of one of them.",
    )
