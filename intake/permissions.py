"""The permissions of every route, in one table.

`api.security.authentication` reads it on each request.

To add a route, add one line here. Invariant: a route that is not in the table is refused for every
caller, and a test that walks all routes fails; only the table decides who may call a route.

Roles act within their own account: an admin may do everything there, a member submits and reads
jobs, a viewer reads jobs, billing reads invoices. The operator of the installation
(`caller.operator`) may call every route, and alone those of `operators`.
"""

from dataclasses import dataclass

from accounts.caller import Caller, Role
from core.errors import Forbidden, ModelForbidden


@dataclass(frozen=True, slots=True)
class RoutePermission:
    """Which roles may call a route; API keys' scopes name its `group`.

    `though_suspended`: also while the account is suspended.
    """

    group: str
    roles: frozenset[Role]
    public: bool = False
    though_suspended: bool = False


SUBMITTERS = frozenset({Role.ADMIN, Role.MEMBER})
READERS = SUBMITTERS | {Role.VIEWER}
PAYERS = frozenset({Role.ADMIN, Role.BILLING})

PUBLIC = RoutePermission("", frozenset(), public=True)


def anyone(group: str) -> RoutePermission:
    """Allow every role."""
    return RoutePermission(group, frozenset(Role))


def readers(group: str) -> RoutePermission:
    """Allow the roles that may read jobs."""
    return RoutePermission(group, READERS)


def submitters(group: str) -> RoutePermission:
    """Allow the roles that may submit, change and delete jobs."""
    return RoutePermission(group, SUBMITTERS)


def payers(group: str) -> RoutePermission:
    """Allow the roles that may read invoices, also of a suspended account: it still has to pay."""
    return RoutePermission(group, PAYERS, though_suspended=True)


def admins(group: str) -> RoutePermission:
    """Allow the account's admins."""
    return RoutePermission(group, frozenset({Role.ADMIN}))


def operators(group: str) -> RoutePermission:
    """Allow only the operator of the installation."""
    return RoutePermission(group, frozenset())


TABLE: dict[str, RoutePermission] = {
    "GET /health": PUBLIC,
    "GET /ready": PUBLIC,
    "GET /ping": PUBLIC,
    "POST /ping": PUBLIC,
    "GET /version": PUBLIC,
    "GET /load": PUBLIC,
    "GET /metrics": PUBLIC,
    "GET /circuit-breaker/status": PUBLIC,
    "GET /openapi.json": PUBLIC,
    "GET /docs": PUBLIC,
    "GET /docs/assets/{name}": PUBLIC,
    "GET /redoc": PUBLIC,
    "POST /v1/jobs": submitters("jobs"),
    "GET /v1/jobs": readers("jobs"),
    "GET /v1/jobs/{job_id}": readers("jobs"),
    "GET /v1/jobs/{job_id}/result": readers("jobs"),
    "GET /v1/jobs/{job_id}/stream": readers("jobs"),
    "POST /v1/jobs/{job_id}/cancel": submitters("jobs"),
    "POST /v1/jobs/{job_id}/retry": submitters("jobs"),
    "DELETE /v1/jobs/{job_id}": submitters("jobs"),
    "GET /v1/dead-letter": readers("jobs"),
    "POST /v1/dead-letter/requeue": submitters("jobs"),
    "POST /v1/dead-letter/delete": submitters("jobs"),
    "POST /v1/dead-letter/{job_id}/requeue": submitters("jobs"),
    "DELETE /v1/dead-letter/{job_id}": submitters("jobs"),
    "POST /v1/chat/completions": submitters("chat"),
    "POST /v1/messages": submitters("messages"),
    "POST /v1/messages/count_tokens": submitters("messages"),
    "POST /tokenize": submitters("tokenize"),
    "POST /detokenize": submitters("tokenize"),
    "POST /v1/completions": submitters("completions"),
    "POST /v1/embeddings": submitters("embeddings"),
    "POST /v1/responses": submitters("responses"),
    "POST /v1/responses/input_tokens": submitters("responses"),
    "GET /v1/responses/{response_id}": readers("responses"),
    "GET /v1/responses/{response_id}/input_items": readers("responses"),
    "POST /v1/responses/{response_id}/cancel": submitters("responses"),
    "DELETE /v1/responses/{response_id}": submitters("responses"),
    "POST /v1/generate": submitters("generate"),
    "POST /v1/generate/stream": submitters("generate"),
    "POST /v1/files": submitters("files"),
    "GET /v1/files": readers("files"),
    "GET /v1/files/{file_id}": readers("files"),
    "GET /v1/files/{file_id}/content": readers("files"),
    "DELETE /v1/files/{file_id}": submitters("files"),
    "POST /v1/batches": submitters("batches"),
    "GET /v1/batches": readers("batches"),
    "GET /v1/batches/{batch_id}": readers("batches"),
    "POST /v1/batches/{batch_id}/cancel": submitters("batches"),
    "GET /v1/models": anyone("models"),
    "GET /v1/models/{name:path}": anyone("models"),
    "GET /v1/usage": anyone("usage"),
    "GET /v1/usage/{job_id}/proof": anyone("usage"),
    "GET /v1/billing/invoices": payers("billing"),
    "GET /v1/billing/invoices/{invoice}": payers("billing"),
    "GET /v1/billing/invoices/{invoice}/pdf": payers("billing"),
    "GET /v1/billing/exports": payers("billing"),
    "GET /v1/billing/balance": anyone("usage"),
    "GET /v1/billing/budgets": anyone("usage"),
    "GET /v1/billing/prices": anyone("usage"),
    "POST /v1/webhooks": submitters("webhooks"),
    "GET /v1/webhooks": readers("webhooks"),
    "GET /v1/webhooks/secret": submitters("webhooks"),
    "POST /v1/webhooks/secret/rotate": submitters("webhooks"),
    "GET /v1/webhooks/deliveries": readers("webhooks"),
    "GET /v1/webhooks/deliveries/{delivery}": readers("webhooks"),
    "POST /v1/webhooks/deliveries/{delivery}/redeliver": submitters("webhooks"),
    "GET /v1/webhooks/{webhook}": readers("webhooks"),
    "PATCH /v1/webhooks/{webhook}": submitters("webhooks"),
    "DELETE /v1/webhooks/{webhook}": submitters("webhooks"),
    "POST /v1/webhooks/{webhook}/rotate": submitters("webhooks"),
    "POST /v1/webhooks/{webhook}/enable": submitters("webhooks"),
    "POST /v1/webhooks/{webhook}/test": submitters("webhooks"),
    "GET /v1/webhooks/{webhook}/deliveries": readers("webhooks"),
    "POST /v1/auth/login": PUBLIC,
    "POST /auth/login": PUBLIC,
    "POST /v1/auth/refresh": PUBLIC,
    "POST /v1/auth/logout": PUBLIC,
    "GET /v1/me": anyone("me"),
    "POST /v1/me/password": anyone("me"),
    "GET /v1/keys": submitters("keys"),
    "POST /v1/keys": submitters("keys"),
    "GET /v1/keys/{key_id}": submitters("keys"),
    "PATCH /v1/keys/{key_id}": submitters("keys"),
    "POST /v1/keys/{key_id}/rotate": submitters("keys"),
    "DELETE /v1/keys/{key_id}": submitters("keys"),
    "GET /v1/users": admins("users"),
    "POST /v1/users": admins("users"),
    "GET /v1/users/{user_id}": admins("users"),
    "PATCH /v1/users/{user_id}": admins("users"),
    "POST /v1/users/{user_id}/password": admins("users"),
    "GET /v1/account": anyone("account"),
    "PATCH /v1/account": admins("account"),
    "GET /v1/accounts": operators("accounts"),
    "POST /v1/accounts": operators("accounts"),
    "GET /v1/accounts/{account}": operators("accounts"),
    "PATCH /v1/accounts/{account}": operators("accounts"),
    "DELETE /v1/accounts/{account}": operators("accounts"),
    "GET /v1/audit": admins("audit"),
    "GET /v1/admin/models": operators("queues"),
    "POST /v1/admin/models/{model:path}/retire": operators("queues"),
    "POST /v1/admin/models/{model:path}/restore": operators("queues"),
    "GET /v1/admin/queues": operators("queues"),
    "POST /v1/admin/queues/{model:path}/pause": operators("queues"),
    "POST /v1/admin/queues/{model:path}/drain": operators("queues"),
    "POST /v1/admin/queues/{model:path}/close": operators("queues"),
    "POST /v1/admin/queues/{model:path}/resume": operators("queues"),
    "PATCH /v1/admin/queues/{model:path}": operators("queues"),
    "POST /v1/admin/queues/{model:path}/purge": operators("queues"),
}

#: Groups in which a caller could give itself more than its own scopes allow.
MANAGING = frozenset({"me", "keys", "users", "account", "accounts"})

_BY_ROUTE: dict[tuple[str, ...], RoutePermission] = {}


def declare(route: str, access: RoutePermission) -> None:
    """Add a route, `METHOD path`, that is not part of every installation."""
    _BY_ROUTE[tuple(route.split(" ", 1))] = access


for _route, _access in TABLE.items():
    declare(_route, _access)


def check_route(method: str, path: str, caller: Caller) -> None:
    """Refuse a caller whose role, or whose key's scopes, do not allow this route.

    Raises:
        Forbidden: naming the role or the scope.
        LookupError: the route is not in the table.
    """
    access = _BY_ROUTE.get((method, path))
    if access is None:
        raise LookupError(f"{method} {path} is missing in intake/permissions.py")
    if caller.role not in access.roles and not caller.operator:
        needed = ", ".join(sorted(access.roles)) or "the operator"
        raise Forbidden(f"The role {caller.role} may not do this. Required: {needed}")
    _check_scopes(method, access, caller)


def open_to_suspended(method: str, path: str) -> bool:
    """Return whether callers of suspended accounts may call a route."""
    access = _BY_ROUTE.get((method, path))
    return access is not None and access.though_suspended


def _check_scopes(method: str, access: RoutePermission, caller: Caller) -> None:
    if caller.routes is not None and access.group not in caller.routes:
        whose = "user" if caller.id == caller.user else "API key"
        raise Forbidden(f"This {whose} may not use the routes {access.group!r}")
    if caller.limited and access.group in MANAGING and method != "GET":
        raise Forbidden(
            "An API key with scopes or an expiry may not change keys, users or accounts"
        )


def check_model(caller: Caller, name: str) -> None:
    """Refuse a model that an API key's scopes exclude.

    Raises:
        ModelForbidden: naming the model.
    """
    if caller.models is not None and name not in caller.models:
        raise ModelForbidden(f"This API key may not use the model {name!r}", param="model")
