"""Operations that may run at the same time: one account never holds all places."""

import pytest

from core.errors import Overloaded
from intake.lifetime.concurrency_limit import ConcurrencyLimit


def test_one_account_never_holds_all_places() -> None:
    limit = ConcurrencyLimit(3, "uploads", per_account=2)
    with limit.take("acme"), limit.take("acme"):
        with pytest.raises(Overloaded, match="at most 2 of one account"), limit.take("acme"):
            pass
        with (
            limit.take("other"),
            pytest.raises(Overloaded, match="at most 3 may"),
            limit.take("third"),
        ):
            pass
    with limit.take("acme"), limit.take("acme"), limit.take("other"):
        pass
