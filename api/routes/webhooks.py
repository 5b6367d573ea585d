"""Routes for webhook endpoints, the account's webhook secret, and deliveries."""

from datetime import timedelta
from typing import Annotated

import structlog
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from accounts.caller import Caller
from api.http.cursor import check_list_cursor
from api.http.deps import AppServices, CurrentCaller
from api.http.json_responses import json_response
from api.http.request_body import read_object
from api.openapi.route_docs import Responses, body_of, error_responses
from api.routes.jobs import Limit
from core.errors import StoreUnavailable
from intake.services import Services
from webhooks import account_secrets, delivery_history, endpoints
from webhooks.tickets import DeliveryTicket, push_tickets
from webhooks.url_rules import check_url
from wire.schemas.validation import check
from wire.schemas.webhooks import (
    Accepted,
    DeliveryPage,
    Webhook,
    WebhookChange,
    WebhookList,
    WebhookRequest,
    WebhookSecretObject,
)
from wire.schemas.webhooks import DeliveryObject as DeliveryAnswer
from wire.views.page import list_page
from wire.views.webhooks import delivery_object, endpoint_object, secret_object

log = structlog.get_logger()

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

After = Annotated[str | None, Query(description="`last_id` of the previous page")]
State = Annotated[delivery_history.State | None, Query()]

ENDPOINT: Responses = {200: {"model": Webhook}}
PAGE: Responses = {200: {"model": DeliveryPage}}
ACCEPTED: Responses = {202: {"model": Accepted}}


@router.post(
    "",
    status_code=201,
    openapi_extra=body_of(WebhookRequest),
    responses={201: {"model": Webhook}, **error_responses(400, 401, 403, 409, 413, 422, 503)},
)
async def create_webhook(
    request: Request, caller: CurrentCaller, services: AppServices
) -> Response:
    """Create an endpoint. Its secret is shown only in this response."""
    parsed = check(WebhookRequest, await read_object(request))
    settings = services.settings.webhooks
    check_url(parsed.url, settings)
    created = await endpoints.create_endpoint(
        services.database,
        _owner(caller),
        url=parsed.url,
        events=parsed.events,
        description=parsed.description,
        max_endpoints=settings.endpoints_per_account,
    )
    return json_response(endpoint_object(created), 201, {"Location": f"/v1/webhooks/{created.id}"})


@router.get("", responses={200: {"model": WebhookList}, **error_responses(401, 403, 503)})
async def list_webhooks(caller: CurrentCaller, services: AppServices) -> Response:
    """List this account's endpoints, newest first."""
    found = await endpoints.list_endpoints(services.database, caller.account)
    data = [endpoint_object(endpoint) for endpoint in found]
    return json_response({"object": "list", "data": data, "has_more": False})


@router.get(
    "/secret", responses={200: {"model": WebhookSecretObject}, **error_responses(401, 403, 503)}
)
async def read_webhook_secret(caller: CurrentCaller, services: AppServices) -> Response:
    """Return the secret that signs deliveries to the webhooks of this account's jobs."""
    return json_response(
        secret_object(await account_secrets.read_secret(services.database, caller.account))
    )


@router.post(
    "/secret/rotate",
    responses={200: {"model": WebhookSecretObject}, **error_responses(401, 403, 503)},
)
async def rotate_webhook_secret(caller: CurrentCaller, services: AppServices) -> Response:
    """Replace the account's secret. For some time, deliveries carry both signatures."""
    created = await account_secrets.rotate_secret(
        services.database, caller.account, caller.id, _overlap(services)
    )
    return json_response(secret_object(created))


@router.get("/deliveries", responses={**PAGE, **error_responses(400, 401, 403, 422, 503)})
async def list_deliveries(
    caller: CurrentCaller,
    services: AppServices,
    limit: Limit = 20,
    after: After = None,
    state: State = None,
) -> Response:
    """List all deliveries of this account, including those of its jobs, newest first."""
    return await _page(services, caller, None, limit, after, state)


@router.get(
    "/deliveries/{delivery}",
    responses={200: {"model": DeliveryAnswer}, **error_responses(401, 403, 404, 422, 503)},
)
async def read_delivery(delivery: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return a delivery with its attempts."""
    found = await delivery_history.read_delivery(services.database, caller.account, delivery)
    return json_response(delivery_object(found, log=True))


@router.post(
    "/deliveries/{delivery}/redeliver",
    status_code=202,
    responses={**ACCEPTED, **error_responses(401, 403, 404, 409, 422, 503)},
)
async def redeliver(delivery: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Send a delivery again with the same `webhook-id`, whatever its state."""
    return await _announce(
        services, await delivery_history.redeliver(services.database, caller.account, delivery)
    )


@router.get("/{webhook}", responses={**ENDPOINT, **error_responses(401, 403, 404, 422, 503)})
async def read_webhook(webhook: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Return an endpoint."""
    found = await endpoints.read_endpoint(services.database, caller.account, webhook)
    return json_response(endpoint_object(found))


@router.patch(
    "/{webhook}",
    openapi_extra=body_of(WebhookChange),
    responses={**ENDPOINT, **error_responses(400, 401, 403, 404, 413, 422, 503)},
)
async def change_webhook(
    request: Request, webhook: str, caller: CurrentCaller, services: AppServices
) -> Response:
    """Change an endpoint's URL, events or description."""
    parsed = check(WebhookChange, await read_object(request))
    if parsed.url is not None:
        check_url(parsed.url, services.settings.webhooks)
    changes = parsed.model_dump(exclude_none=True)
    changed = await endpoints.change_endpoint(services.database, _owner(caller), webhook, changes)
    return json_response(endpoint_object(changed))


@router.delete("/{webhook}", status_code=204, responses=error_responses(401, 403, 404, 422, 503))
async def remove_webhook(webhook: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Remove an endpoint. Its pending deliveries are dropped."""
    await endpoints.remove_endpoint(services.database, _owner(caller), webhook)
    return Response(status_code=204)


@router.post(
    "/{webhook}/rotate", responses={**ENDPOINT, **error_responses(401, 403, 404, 422, 503)}
)
async def rotate_webhook(webhook: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Replace an endpoint's secret. For some time, deliveries carry both signatures."""
    created = await endpoints.rotate_endpoint(
        services.database, _owner(caller), webhook, _overlap(services)
    )
    return json_response(endpoint_object(created))


@router.post(
    "/{webhook}/enable", responses={**ENDPOINT, **error_responses(401, 403, 404, 422, 503)}
)
async def enable_webhook(webhook: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Enable a disabled endpoint, so that it receives events again."""
    found = await endpoints.enable_endpoint(services.database, _owner(caller), webhook)
    return json_response(endpoint_object(found))


@router.post(
    "/{webhook}/test",
    status_code=202,
    responses={**ACCEPTED, **error_responses(401, 403, 404, 409, 422, 503)},
)
async def test_webhook(webhook: str, caller: CurrentCaller, services: AppServices) -> Response:
    """Send the event `webhook.test` to an endpoint, whatever its events."""
    return await _announce(
        services, await endpoints.send_test_event(services.database, caller.account, webhook)
    )


@router.get(
    "/{webhook}/deliveries", responses={**PAGE, **error_responses(400, 401, 403, 404, 422, 503)}
)
async def list_webhook_deliveries(
    webhook: str,
    caller: CurrentCaller,
    services: AppServices,
    limit: Limit = 20,
    after: After = None,
    state: State = None,
) -> Response:
    """List the deliveries to an endpoint, newest first."""
    await endpoints.read_endpoint(services.database, caller.account, webhook)
    return await _page(services, caller, webhook, limit, after, state)


async def _page(
    services: Services,
    caller: Caller,
    target: str | None,
    limit: int,
    after: str | None,
    state: delivery_history.State | None,
) -> Response:
    before = None if after is None else check_list_cursor(after, "whd")
    delivery_filter = delivery_history.DeliveryFilter(caller.account, target, state, before)
    found = await delivery_history.list_deliveries(services.database, delivery_filter, limit + 1)
    return json_response(list_page(found, limit, delivery_object))


async def _announce(services: Services, ticket: DeliveryTicket) -> Response:
    """Announce a delivery; without Redis, the deliverer finds it within a second."""
    try:
        await push_tickets(services.store.redis, services.store.keys, [ticket])
    except StoreUnavailable:
        log.warning("webhooks_not_announced", deliveries=1)
    accepted = {"object": "webhook.delivery", "id": ticket.id, "state": "pending"}
    return json_response(accepted, 202, {"Location": f"/v1/webhooks/deliveries/{ticket.id}"})


def _owner(caller: Caller) -> endpoints.EndpointOwner:
    return endpoints.EndpointOwner(caller.account, caller.id)


def _overlap(services: Services) -> timedelta:
    return timedelta(hours=services.settings.webhooks.rotation_hours)
