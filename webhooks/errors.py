"""Errors of webhooks.

ClientError: InvalidWebhook, EndpointNotFound, DeliveryNotFound, TooManyEndpoints, EndpointDisabled
"""

from core.errors import ClientError


class InvalidWebhook(ClientError):
    """A URL that webhooks are never sent to; the text says why."""

    code = "invalid-webhook"
    status = 422
    title = "Invalid webhook"


class EndpointNotFound(ClientError):
    """An unknown endpoint, or one of another account: clients cannot tell which."""

    code = "webhook-not-found"
    status = 404
    title = "Webhook not found"


class DeliveryNotFound(ClientError):
    """An unknown delivery, one of another account, or one that was purged."""

    code = "delivery-not-found"
    status = 404
    title = "Delivery not found"


class TooManyEndpoints(ClientError):
    """The account already has the most endpoints that it may have."""

    code = "too-many-webhooks"
    status = 409
    title = "Too many webhooks"


class EndpointDisabled(ClientError):
    """The endpoint is disabled, so nothing is sent to it: enable it first."""

    code = "webhook-disabled"
    status = 409
    title = "Webhook disabled"


class Undeliverable(Exception):
    """The receiver's name leads to no address that may be reached; the text is for operators only.

    Clients must not learn which names exist inside: they get the same text and time for all.
    """

    shown = "the host name has no public address"
