"""kombu's Redis transport, which moves unreadable messages to a dead-letter list.

kombu decodes a message while it pops it, so one malformed entry would end the consumer and be lost.
Invariant: an unreadable message is kept and counted, and the next one is served.
"""

from typing import Any

import redis
import structlog
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from core import metrics
from jobs.broker.tickets import DEAD_TICKETS_KEPT

log = structlog.get_logger()


def dead_letter(client: Any, dead_key: str, raw: object, reason: str) -> None:
    """Move an unreadable message to the bounded dead-letter list, and count it."""
    metrics.dead_tickets.inc()
    log.error("ticket_unreadable", reason=reason, size=len(str(raw)))
    client.lpush(dead_key, raw if isinstance(raw, bytes | str) else repr(raw))
    client.ltrim(dead_key, 0, DEAD_TICKETS_KEPT - 1)


class _RememberingRedis(redis.Redis):
    """Keeps the last BRPOP answer, so that it can be kept when it cannot be decoded."""

    last_popped: Any = None

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        response = super().parse_response(  # type: ignore[no-untyped-call]
            connection, command_name, **options
        )
        if command_name == "BRPOP":
            self.last_popped = response
        return response


class QoS(kombu_redis.QoS):  # type: ignore[misc]
    """Counts a ticket as done although Redis refuses to hear so.

    Otherwise a worker whose slots were all busy when its server became a replica would fetch
    nothing any more, and so never find out that it must connect anew.
    """

    def ack(self, delivery_tag: Any) -> None:
        """Acknowledge a ticket; one that Redis still has comes back and finds nothing to do."""
        try:
            super().ack(delivery_tag)
        except (redis.RedisError, OSError):
            virtual.QoS.ack(self, delivery_tag)
            raise


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    """A channel that survives messages that are not JSON or lack an envelope."""

    QoS = QoS
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "dead_tickets_key")
    dead_tickets_key = "dead:tickets"

    def _get_client(self) -> type[redis.Redis]:
        return _RememberingRedis

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            popped = self.client.last_popped
            with self.conn_or_acquire() as client:
                dead_letter(client, self.dead_tickets_key, popped[1] if popped else "", repr(error))
            return True


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """Selected by class path in the worker's Celery settings."""

    Channel = Channel
    #: A Redis without memory or disk, or a replica, refuses to pop tickets. Whatever Redis answers,
    #: Celery must connect anew and retry, as after a lost connection, and not end the worker.
    connection_errors = (*kombu_redis.Transport.connection_errors, redis.RedisError)
