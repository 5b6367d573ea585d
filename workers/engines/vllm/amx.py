"""Stops vLLM from using its own AMX kernels; see docs/decisions/0009-no-amx-unless-asked.md.

vLLM asks `torch.cpu` whether AMX is available whenever it chooses a kernel: attention, linear
layers, mixture of experts, Mamba. One changed answer, before the first question, covers every
kernel. AMX inside oneDNN, which torch calls, is still used: oneDNN configures its tiles itself.

Invariant: AMX is refused in each process before vLLM's configuration is used there.
"""

from collections.abc import Callable
from typing import Any

import torch


def _unsupported() -> bool:
    return False


def refuse_amx() -> None:
    """Report AMX as missing in this process; call it before a model is configured or loaded."""
    torch.cpu._is_amx_tile_supported = _unsupported  # noqa: SLF001  # what vLLM asks
    torch.cpu._is_amx_fp16_supported = _unsupported  # noqa: SLF001


class RefusesAmx(dict[str, Any]):
    """A part of vLLM's configuration that refuses AMX wherever it is unpickled.

    A separate core and the processes it starts receive the configuration pickled, before they do
    anything else. In every other way this is the plain dict of `VllmConfig.additional_config`.
    """

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Make unpickling call `_refused`."""
        return _refused, (dict(self),)


def _refused(content: dict[str, Any]) -> RefusesAmx:
    refuse_amx()
    return RefusesAmx(content)
