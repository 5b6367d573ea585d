"""Order of a queue: service tiers, and within a tier fair shares in estimated tokens.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): a job's virtual start is
`max(virtual time, the account's last finish)`, its finish is `start + cost / weight`. The job with
the smallest finish goes first, and virtual time follows the starts of claimed jobs. Invariant: with
weights w, backlogged accounts get tokens in proportion to w, so a new account waits for at most one
job of each other account, however many they have queued.
"""

from enum import StrEnum
from typing import Any

from jobs.prompts import choices_of, output_limit_of

#: Distance between two tiers in the ready set's score; virtual time stays far below it.
TIER_SPAN = 1e13

#: What a request without an explicit limit is assumed to produce, in tokens.
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


def estimated_tokens(body: dict[str, Any], size_bytes: int) -> int:
    """Estimate input + output tokens of an OpenAI body of `size_bytes` UTF-8 bytes."""
    if "input" in body:  # embeddings have no output
        return max(1, size_bytes // BYTES_PER_TOKEN)
    limit = output_limit_of(body)
    output = (DEFAULT_OUTPUT_TOKENS if limit is None else limit) * choices_of(body)
    constraint = CONSTRAINT_TOKENS if _constrained(body) else 0
    return max(1, size_bytes // BYTES_PER_TOKEN) + output + constraint


def _constrained(body: dict[str, Any]) -> bool:
    """Return whether the engine compiles a grammar for the output."""
    if body.get("structured_outputs"):
        return True
    if (form := body.get("response_format")) and form.get("type") != "text":
        return True
    return body.get("tool_choice") not in (None, "none", "auto")
