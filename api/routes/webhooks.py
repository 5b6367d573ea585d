"""Webhooks: an account's endpoints, the secret of its jobs' own URLs, and how deliveries went."""

from datetime import timedelta
from typing import Annotated

import structlog
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from accounts.caller import Caller
from api.cursor import check_list_cursor
from api.deps import Api, CurrentCaller
from api.json_responses import json_response
from api.openapi.route_docs import Responses, body_of, refusals
from api.request_body import read_object
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

After = Annotated[str | None, Query(description="`last_id` of an earlier page")]
State = Annotated[delivery_history.State | None, Query()]

ENDPOINT: Responses = {200: {"model": Webhook}}
PAGE: Responses = {200: {"model": DeliveryPage}}
ACCEPTED: Responses = {202: {"model": Accepted}}


@router.post(
    "",
    status_code=201,
    openapi_extra=body_of(WebhookRequest),
    responses={201: {"model": Webhook}, **refusals(400, 401, 403, 409, 413, 422, 503)},
)
async def create_webhook(request: Request, key: CurrentCaller, api: Api) -> Response:
    """Add an endpoint; its secret is in this answer and in no other."""
    asked = check(WebhookRequest, await read_object(request))
    own = api.settings.webhooks
    check_url(asked.url, own)
    made = await endpoints.create_endpoint(
        api.database,
        _caller(key),
        url=asked.url,
        events=asked.events,
        description=asked.description,
        most=own.endpoints_per_account,
    )
    return json_response(endpoint_object(made), 201, {"Location": f"/v1/webhooks/{made.id}"})


@router.get("", responses={200: {"model": WebhookList}, **refusals(401, 403, 503)})
async def list_webhooks(key: CurrentCaller, api: Api) -> Response:
    """List this account's endpoints, newest first."""
    found = await endpoints.list_endpoints(api.database, key.account)
    data = [endpoint_object(one) for one in found]
    return json_response({"object": "list", "data": data, "has_more": False})


@router.get("/secret", responses={200: {"model": WebhookSecretObject}, **refusals(401, 403, 503)})
async def read_webhook_secret(key: CurrentCaller, api: Api) -> Response:
    """Return what deliveries to the URLs of this account's jobs are signed with."""
    return json_response(
        secret_object(await account_secrets.read_secret(api.database, key.account))
    )


@router.post(
    "/secret/rotate", responses={200: {"model": WebhookSecretObject}, **refusals(401, 403, 503)}
)
async def rotate_webhook_secret(key: CurrentCaller, api: Api) -> Response:
    """Replace that secret; for a while deliveries carry both signatures."""
    made = await account_secrets.rotate_secret(api.database, key.account, key.id, _overlap(api))
    return json_response(secret_object(made))


@router.get("/deliveries", responses={**PAGE, **refusals(400, 401, 403, 422, 503)})
async def list_deliveries(
    key: CurrentCaller, api: Api, limit: Limit = 20, after: After = None, state: State = None
) -> Response:
    """List all deliveries of this account, also those to the URLs of its jobs, newest first."""
    return await _page(api, key, None, limit, after, state)


@router.get(
    "/deliveries/{delivery}",
    responses={200: {"model": DeliveryAnswer}, **refusals(401, 403, 404, 422, 503)},
)
async def read_delivery(delivery: str, key: CurrentCaller, api: Api) -> Response:
    """Return a delivery with its attempts."""
    found = await delivery_history.read_delivery(api.database, key.account, delivery)
    return json_response(delivery_object(found, log=True))


@router.post(
    "/deliveries/{delivery}/redeliver",
    status_code=202,
    responses={**ACCEPTED, **refusals(401, 403, 404, 409, 422, 503)},
)
async def redeliver(delivery: str, key: CurrentCaller, api: Api) -> Response:
    """Send a delivery again, under the same `webhook-id`, whatever became of it."""
    return await _sent(api, await delivery_history.redeliver(api.database, key.account, delivery))


@router.get("/{webhook}", responses={**ENDPOINT, **refusals(401, 403, 404, 422, 503)})
async def read_webhook(webhook: str, key: CurrentCaller, api: Api) -> Response:
    """Return an endpoint."""
    found = await endpoints.read_endpoint(api.database, key.account, webhook)
    return json_response(endpoint_object(found))


@router.patch(
    "/{webhook}",
    openapi_extra=body_of(WebhookChange),
    responses={**ENDPOINT, **refusals(400, 401, 403, 404, 413, 422, 503)},
)
async def change_webhook(request: Request, webhook: str, key: CurrentCaller, api: Api) -> Response:
    """Change an endpoint's URL, events or description."""
    asked = check(WebhookChange, await read_object(request))
    if asked.url is not None:
        check_url(asked.url, api.settings.webhooks)
    changes = asked.model_dump(exclude_none=True)
    changed = await endpoints.change_endpoint(api.database, _caller(key), webhook, changes)
    return json_response(endpoint_object(changed))


@router.delete("/{webhook}", status_code=204, responses=refusals(401, 403, 404, 422, 503))
async def remove_webhook(webhook: str, key: CurrentCaller, api: Api) -> Response:
    """Remove an endpoint; what was on its way there is given up."""
    await endpoints.remove_endpoint(api.database, _caller(key), webhook)
    return Response(status_code=204)


@router.post("/{webhook}/rotate", responses={**ENDPOINT, **refusals(401, 403, 404, 422, 503)})
async def rotate_webhook(webhook: str, key: CurrentCaller, api: Api) -> Response:
    """Give an endpoint a new secret; for a while deliveries carry both signatures."""
    made = await endpoints.rotate_endpoint(api.database, _caller(key), webhook, _overlap(api))
    return json_response(endpoint_object(made))


@router.post("/{webhook}/enable", responses={**ENDPOINT, **refusals(401, 403, 404, 422, 503)})
async def enable_webhook(webhook: str, key: CurrentCaller, api: Api) -> Response:
    """Let an endpoint that was disabled hear of events again."""
    found = await endpoints.enable_endpoint(api.database, _caller(key), webhook)
    return json_response(endpoint_object(found))


@router.post(
    "/{webhook}/test",
    status_code=202,
    responses={**ACCEPTED, **refusals(401, 403, 404, 409, 422, 503)},
)
async def test_webhook(webhook: str, key: CurrentCaller, api: Api) -> Response:
    """Send an endpoint the event `webhook.test`, whatever it asks for."""
    return await _sent(api, await endpoints.tell_test(api.database, key.account, webhook))


@router.get("/{webhook}/deliveries", responses={**PAGE, **refusals(400, 401, 403, 404, 422, 503)})
async def list_webhook_deliveries(
    webhook: str,
    key: CurrentCaller,
    api: Api,
    limit: Limit = 20,
    after: After = None,
    state: State = None,
) -> Response:
    """List the deliveries to an endpoint, newest first."""
    await endpoints.read_endpoint(api.database, key.account, webhook)
    return await _page(api, key, webhook, limit, after, state)


async def _page(
    api: Services,
    key: Caller,
    target: str | None,
    limit: int,
    after: str | None,
    state: delivery_history.State | None,
) -> Response:
    before = None if after is None else check_list_cursor(after, "whd")
    wanted = delivery_history.DeliveryFilter(key.account, target, state, before)
    found = await delivery_history.list_deliveries(api.database, wanted, limit + 1)
    return json_response(list_page(found, limit, delivery_object))


async def _sent(api: Services, ticket: DeliveryTicket) -> Response:
    """Have a delivery made at once; without Redis it is found a second later."""
    try:
        await push_tickets(api.store.redis, api.store.keys, [ticket])
    except StoreUnavailable:
        log.warning("webhooks_not_announced", deliveries=1)
    accepted = {"object": "webhook.delivery", "id": ticket.id, "state": "pending"}
    return json_response(accepted, 202, {"Location": f"/v1/webhooks/deliveries/{ticket.id}"})


def _caller(key: Caller) -> endpoints.EndpointOwner:
    return endpoints.EndpointOwner(key.account, key.id)


def _overlap(api: Services) -> timedelta:
    return timedelta(hours=api.settings.webhooks.rotation_hours)
