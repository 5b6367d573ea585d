"""Penalties of a continued sequence; vLLM's core loads this module by class path.

vLLM counts presence and frequency over the tokens that it sampled itself. A continued sequence has
its logged tokens in the prompt, so vLLM's own penalties are disabled and applied here, with the
prompt cut where the logged tokens begin: the same function with the same arguments.

Invariant: a request without `CARRIED` in its extra arguments is not changed.
"""

from typing import Any

import torch
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor
from vllm.v1.sample.ops.penalties import apply_all_penalties

CARRIED = "penstock_penalties"


def carry_penalties(params: SamplingParams, logged: int) -> None:
    """Move the penalties of a sequence with `logged` earlier tokens to this processor."""
    if not params.presence_penalty and not params.frequency_penalty:
        return  # repetition_penalty counts prompt and output alike
    carried = [
        params.presence_penalty,
        params.frequency_penalty,
        params.repetition_penalty,
        logged,
    ]
    params.extra_args = {**(params.extra_args or {}), CARRIED: carried}
    params.presence_penalty = params.frequency_penalty = 0.0
    params.repetition_penalty = 1.0


class ResumedPenalties(AdapterLogitsProcessor):  # type: ignore[misc]
    """Applies carried penalties; one `_Penalise` per continued sequence in the batch."""

    def is_argmax_invariant(self) -> bool:
        """Return False: penalties change which token is the most likely."""
        return False

    def new_req_logits_processor(self, params: SamplingParams) -> "_Penalise | None":
        """Return the processor of a new sequence; None if it has no carried penalties."""
        carried = (params.extra_args or {}).get(CARRIED)
        return None if carried is None else _Penalise(*carried)


class _Penalise:
    def __init__(self, presence: float, frequency: float, repetition: float, logged: int) -> None:
        self._factors = [torch.tensor([value]) for value in (presence, frequency, repetition)]
        self._logged = logged
        self._prompt: torch.Tensor | None = None

    def __call__(
        self, prompt_ids: list[int], output_ids: list[int], logits: torch.Tensor
    ) -> torch.Tensor:
        start = len(prompt_ids) - self._logged
        if self._prompt is None:
            self._prompt = torch.tensor([prompt_ids[:start]], device=logits.device)
            self._factors = [factor.to(logits.device) for factor in self._factors]
        outputs: list[Any] = [prompt_ids[start:] + output_ids]
        apply_all_penalties(logits.unsqueeze(0), self._prompt, *self._factors, outputs)
        return logits
