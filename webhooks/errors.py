"""What can go wrong with webhooks, apart from bugs.

ClientError: InvalidWebhook, EndpointNotFound, DeliveryNotFound, TooManyEndpoints, EndpointDisabled
"""

from core.errors import ClientError


class InvalidWebhook(ClientError):
    """A URL that nothing is ever sent to; the text says why."""

    code = "invalid-webhook"
    status = 422
    title = "Invalid webhook"


class EndpointNotFound(ClientError):
    """Unknown endpoint, or another account's: the two look alike."""

    code = "webhook-not-found"
    status = 404
    title = "Webhook not found"


class DeliveryNotFound(ClientError):
    """Unknown delivery, another account's, or one that is no longer kept."""

    code = "delivery-not-found"
    status = 404
    title = "Delivery not found"


class TooManyEndpoints(ClientError):
    """The account has as many endpoints as it may have."""

    code = "too-many-webhooks"
    status = 409
    title = "Too many webhooks"


class EndpointDisabled(ClientError):
    """Nothing is sent to a disabled endpoint: enable it first."""

    code = "webhook-disabled"
    status = 409
    title = "Webhook disabled"


class Undeliverable(Exception):
    """An attempt that did not reach the receiver; `str(error)` is shown in the delivery's log."""
