"""A trace receiver for several test files."""

from collections.abc import Iterator

import pytest

from tests.support.otlp import OtlpReceiver, otlp_receiver


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as running:
        yield running
