"""Keeps vLLM away from its own AMX kernels; see docs/decisions/0009-no-amx-unless-asked.md.

All of vLLM asks `torch.cpu` whether AMX is there, at the moment it chooses a kernel: attention,
linear layers, mixture of experts, Mamba. So one answer, given before the first question, covers
every kernel. AMX inside oneDNN, which torch calls, stays: it configures its tiles itself.
"""

import torch


def _unsupported() -> bool:
    return False


def refuse_amx() -> None:
    """Let vLLM find no AMX in this process; call before a model is configured or loaded."""
    torch.cpu._is_amx_tile_supported = _unsupported  # noqa: SLF001  # what vLLM asks
    torch.cpu._is_amx_fp16_supported = _unsupported  # noqa: SLF001
