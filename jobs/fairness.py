"""Order of a queue: service tiers, and within a tier fair shares in estimated tokens.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): a job's virtual start is
`max(virtual time, the account's last finish)`, its finish is `start + cost / weight`. The job with
the smallest finish goes first, and virtual time follows the starts of claimed jobs. Invariant: with
weights w, backlogged accounts get tokens in proportion to w, so a new account waits for at most one
job of each other account, however many they have queued.

A job's cost is an estimate until it ends. Then the scripts replace it by the tokens the job used:
what was used beyond the estimate moves the account's waiting jobs back, what was not used makes its
next jobs cheaper. The output of a choice without a limit is estimated by a mean that the scripts
keep by account and model.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jobs.prompts import choices_of, output_limit_of

#: Distance between two tiers in the ready set's score; virtual time stays far below it.
TIER_SPAN = 1e13

#: What a choice without a limit is assumed to produce, in tokens, until such jobs have ended.
DEFAULT_OUTPUT_TOKENS = 256

#: Rough UTF-8 bytes per token of English text; only ratios between jobs matter here.
BYTES_PER_TOKEN = 4

#: What rendering and compiling a constraint on the output is charged as, in tokens: about as long
#: as an output without a limit. Its size is charged with the body's.
CONSTRAINT_TOKENS = 256


class ServiceTier(StrEnum):
    """Named tiers, best first. OpenAI's `auto` means `default`."""

    PRIORITY = "priority"
    DEFAULT = "default"
    FLEX = "flex"

    @property
    def rank(self) -> int:
        """0 is served first."""
        return _RANKS[self]


_RANKS = {tier: rank for rank, tier in enumerate(ServiceTier)}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job is charged before it has run.

    `tokens` counts DEFAULT_OUTPUT_TOKENS for each of the `open_choices`, which have no limit on
    their output; `fixed` is the part of it that is not settled when the job ends.
    """

    tokens: int
    open_choices: int = 0
    fixed: int = 0


def estimate(body: dict[str, Any], size_bytes: int) -> Estimate:
    """Estimate the cost of an OpenAI body of `size_bytes` UTF-8 bytes."""
    prompt = max(1, size_bytes // BYTES_PER_TOKEN)
    if "input" in body:  # embeddings have no output
        return Estimate(prompt)
    limit, choices = output_limit_of(body), choices_of(body)
    output = (DEFAULT_OUTPUT_TOKENS if limit is None else limit) * choices
    fixed = CONSTRAINT_TOKENS if _constrained(body) else 0
    return Estimate(prompt + output + fixed, choices if limit is None else 0, fixed)


def estimated_tokens(body: dict[str, Any], size_bytes: int) -> int:
    """Estimate input + output tokens of an OpenAI body of `size_bytes` UTF-8 bytes."""
    return estimate(body, size_bytes).tokens


def _constrained(body: dict[str, Any]) -> bool:
    """Return whether the engine compiles a grammar for the output."""
    if body.get("structured_outputs"):
        return True
    if (form := body.get("response_format")) and form.get("type") != "text":
        return True
    return body.get("tool_choice") not in (None, "none", "auto")
