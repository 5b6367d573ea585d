"""Who may be sent to now: bounded per account and host, so that a slow receiver delays itself only.

Pure but for the one loop it lives on. Invariant: no more of one account to one host are under way
than `per_host`, of one account than `per_account`; what waits is bounded, and what is turned away
is found again in SQL.
"""

from collections import Counter, defaultdict, deque

from webhooks.tickets import DeliveryTicket

#: Cap on tickets that wait for one receiver; the rest is found again in SQL.
MAX_WAITING = 200


class ConcurrencyLimits:
    """The deliveries of this process, one lane for each account and host."""

    def __init__(self, per_host: int, per_account: int) -> None:
        self._per_host = per_host
        self._per_account = per_account
        self._running: Counter[tuple[str, str]] = Counter()
        self._accounts: Counter[str] = Counter()
        self._waiting: defaultdict[tuple[str, str], deque[DeliveryTicket]] = defaultdict(deque)
        self._known: set[str] = set()

    @property
    def running(self) -> int:
        """How many are under way."""
        return self._accounts.total()

    def enter(self, ticket: DeliveryTicket) -> bool:
        """Return whether it may go now; else it waits for its lane, or is forgotten."""
        receiver = (ticket.account, ticket.host)
        if ticket.id in self._known:
            return False
        if self._running[receiver] >= self._per_host:
            if len(self._waiting[receiver]) < MAX_WAITING:
                self._known.add(ticket.id)
                self._waiting[receiver].append(ticket)
            return False
        if self._accounts[ticket.account] >= self._per_account:
            return False
        self._known.add(ticket.id)
        self._running[receiver] += 1
        self._accounts[ticket.account] += 1
        return True

    def next(self, done: DeliveryTicket) -> DeliveryTicket | None:
        """Return what goes in the place of one that is done; None leaves the place."""
        receiver = (done.account, done.host)
        self._known.discard(done.id)
        waiting = self._waiting[receiver]
        if waiting:
            return waiting.popleft()
        self._release(receiver)
        return None

    def close(self, done: DeliveryTicket) -> None:
        """Leave a place without taking up what waits for it."""
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
