"""Concurrency limits per host and account: the queue is bounded and no slot leaks."""

import asyncio

import pytest

from webhooks.batched_calls import BatchedCalls
from webhooks.concurrency_limits import MAX_WAITING, ConcurrencyLimits
from webhooks.tickets import DeliveryTicket


def ticket(number: int, account: str = "acme", host: str = "a") -> DeliveryTicket:
    return DeliveryTicket(f"whd_{account}_{host}_{number}", account, host)


def test_a_lane_has_so_many_places_and_the_next_waits_for_one() -> None:
    limits = ConcurrencyLimits(100, per_host=2, per_account=10)
    assert [limits.enter(ticket(number)) for number in range(4)] == [True, True, False, False]
    assert limits.enter(ticket(0, host="b"))
    assert limits.running == 3
    assert limits.next(ticket(0)) == ticket(2)
    assert limits.running == 3
    assert limits.next(ticket(2)) == ticket(3)
    assert limits.next(ticket(1)) is None
    assert limits.next(ticket(3)) is None
    assert limits.next(ticket(0, host="b")) is None
    assert limits.running == 0


def test_what_is_known_here_does_not_go_twice() -> None:
    limits = ConcurrencyLimits(100, per_host=1, per_account=10)
    assert limits.enter(ticket(0))
    assert not limits.enter(ticket(0))
    assert not limits.enter(ticket(1))
    assert not limits.enter(ticket(1))
    assert limits.next(ticket(0)) == ticket(1)
    assert limits.next(ticket(1)) is None
    assert limits.enter(ticket(0))


def test_an_account_has_its_share_over_all_hosts() -> None:
    limits = ConcurrencyLimits(100, per_host=2, per_account=3)
    went = [limits.enter(ticket(0, host=str(host))) for host in range(5)]
    assert went == [True, True, True, False, False]
    assert limits.enter(ticket(0, "other"))
    limits.close(ticket(0, host="0"))
    assert limits.enter(ticket(0, host="3"))


def test_what_waits_is_bounded_and_the_rest_may_come_again() -> None:
    limits = ConcurrencyLimits(100, per_host=1, per_account=10)
    assert limits.enter(ticket(0))
    for number in range(1, MAX_WAITING + 10):
        assert not limits.enter(ticket(number))
    limits.close(ticket(0))
    assert limits.running == 0
    assert limits.enter(ticket(5))  # waiting tickets are forgotten


def test_accounts_that_hang_leave_a_share_to_the_others() -> None:
    limits = ConcurrencyLimits(64, per_host=16, per_account=32)
    for account in ("one", "two"):
        for number in range(200):
            limits.enter(ticket(number, account, host=str(number % 8)))
    assert limits.running < 64
    assert limits.enter(ticket(0, "new")), "a place is left for an account that has none"

    # Their attempts end, and what waits takes their places, up to the same share for all.
    running = [
        ticket(number, account, host=str(number % 8))
        for account in ("one", "two")
        for number in range(200)
    ]
    for one in running:
        if one.id in limits._known and limits._running[(one.account, one.host)]:
            limits.next(one)
    assert limits.running <= 64 - 64 // 3 + 1


async def test_calls_share_a_lot_and_each_gets_its_own_answer() -> None:
    lots: list[list[int]] = []

    async def double(items: object) -> list[int]:
        lot = list(items)
        lots.append(lot)
        await asyncio.sleep(0)
        return [2 * one for one in lot]

    gathered: BatchedCalls[int, int] = BatchedCalls(double, 4)
    assert await asyncio.gather(*(gathered(number) for number in range(10))) == [
        2 * number for number in range(10)
    ]
    assert [len(lot) for lot in lots] == [4, 4, 2]


async def test_a_lot_that_fails_fails_its_own_callers_only() -> None:
    async def work(items: object) -> list[int]:
        await asyncio.sleep(0)
        lot: list[int] = list(items)
        if 1 in lot:
            raise ValueError("one")
        return lot

    gathered: BatchedCalls[int, int] = BatchedCalls(work, 2)
    answers = await asyncio.gather(*(gathered(n) for n in range(4)), return_exceptions=True)
    assert [type(one) for one in answers] == [ValueError, ValueError, int, int]
    with pytest.raises(ValueError, match="one"):
        await gathered(1)
    assert await gathered(7) == 7
