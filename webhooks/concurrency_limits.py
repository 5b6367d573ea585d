"""Limits the running attempts per account and host, so that a slow receiver delays only itself.

Used on one event loop; does no I/O. Invariant: at most `per_host` attempts of one account to one
host run, and at most `per_account` of one account. An account never starts one when it has as many
as there are free places, so n accounts whose receivers hang leave a share of 1/(n + 1) to the
others. The queue of each receiver is bounded; a ticket that is dropped is found again in SQL.
"""

from collections import Counter, defaultdict, deque

from webhooks.tickets import DeliveryTicket

#: Cap on tickets that wait for one receiver; the rest is found again in SQL.
MAX_WAITING = 200


class ConcurrencyLimits:
    """The attempts of this process by receiver, that is, by account and host."""

    def __init__(self, total: int, per_host: int, per_account: int) -> None:
        self._total = total
        self._per_host = per_host
        self._per_account = per_account
        self._running: Counter[tuple[str, str]] = Counter()
        self._accounts: Counter[str] = Counter()
        self._waiting: defaultdict[tuple[str, str], deque[DeliveryTicket]] = defaultdict(deque)
        self._known: set[str] = set()

    @property
    def running(self) -> int:
        """The number of running attempts."""
        return self._accounts.total()

    @property
    def _free(self) -> int:
        return self._total - self.running

    def enter(self, ticket: DeliveryTicket) -> bool:
        """Return whether an attempt may start now; otherwise it is queued or dropped."""
        receiver = (ticket.account, ticket.host)
        if ticket.id in self._known:
            return False
        if self._running[receiver] >= self._per_host:
            if len(self._waiting[receiver]) < MAX_WAITING:
                self._known.add(ticket.id)
                self._waiting[receiver].append(ticket)
            return False
        if self._accounts[ticket.account] >= min(self._per_account, self._free):
            return False
        self._known.add(ticket.id)
        self._running[receiver] += 1
        self._accounts[ticket.account] += 1
        return True

    def next(self, done: DeliveryTicket) -> DeliveryTicket | None:
        """Return the ticket that takes the place of a finished one.

        None if no ticket waits, or if the account has more than its share of the places: what waits
        is then taken by another attempt at the receiver, or found again in SQL.
        """
        receiver = (done.account, done.host)
        self._known.discard(done.id)
        waiting = self._waiting[receiver]
        if waiting and self._accounts[done.account] <= self._free + 1:
            return waiting.popleft()
        self._release(receiver)
        return None

    def close(self, done: DeliveryTicket) -> None:
        """Free the place of a ticket without starting the next one."""
        self._known.discard(done.id)
        self._release((done.account, done.host))

    def _release(self, receiver: tuple[str, str]) -> None:
        account = receiver[0]
        self._running[receiver] -= 1
        self._accounts[account] -= 1
        if not self._running[receiver]:
            del self._running[receiver]
            self._known -= {ticket.id for ticket in self._waiting.pop(receiver, ())}
        if not self._accounts[account]:
            del self._accounts[account]
