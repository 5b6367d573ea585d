"""Extends pytest-timeout's limit of a test while the machine is busy."""

import signal
import threading
import time
from types import FrameType

import pytest
import pytest_timeout

from tests.support.machine import bound

#: An extended limit is looked at again after at least so many seconds.
LEAST_SECONDS = 1.0


def set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> bool | None:
    """Limit a test by SIGALRM; None where pytest-timeout must do it in its own way."""
    if settings.method != "signal" or threading.current_thread() is not threading.main_thread():
        return None
    began = time.monotonic()

    def expired(_number: int, _frame: FrameType | None) -> None:
        __tracebackhide__ = True
        left = began + bound(settings.timeout) - time.monotonic()
        if left > 0:
            signal.setitimer(signal.ITIMER_REAL, max(left, LEAST_SECONDS))
        else:
            pytest_timeout.timeout_sigalrm(item, settings)

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    item.cancel_timeout = cancel  # type: ignore[attr-defined]
    signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout)
    return True
