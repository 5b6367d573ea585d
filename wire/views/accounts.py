"""Accounts, users, keys and audit entries as clients see them; never with a hash in them."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from accounts.caller import Caller, Limits

LIMITS = tuple(Limits.model_fields)


def page(
    rows: Sequence[Row[Any]], limit: int, view: Callable[[Row[Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Return a page of `limit` out of rows that were read with one more."""
    data = [view(row) for row in rows[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(rows) > limit,
    }


def key_view(row: Row[Any]) -> dict[str, Any]:
    """Return a key without its secret."""
    return {
        "object": "key",
        "id": row.id,
        "account": row.account_id,
        "user": row.user_id,
        "name": row.name,
        "prefix": row.prefix,
        "role": row.role,
        "operator": row.admin,
        "models": row.models,
        "routes": row.routes,
        "networks": row.networks,
        "limits": _limits(row),
        "weight": row.weight,
        "created_at": _unix(row.created_at),
        "expires_at": _unix(row.expires_at),
        "revoked_at": _unix(row.revoked_at),
        "rotated_from": row.rotated_from,
    }


def user_view(row: Row[Any]) -> dict[str, Any]:
    """Return a user."""
    return {
        "object": "user",
        "id": row.id,
        "account": row.account_id,
        "email": row.email,
        "role": row.role,
        "operator": row.operator,
        "has_password": row.password_hash is not None,
        "created_at": _unix(row.created_at),
        "disabled_at": _unix(row.disabled_at),
    }


def account_view(row: Row[Any]) -> dict[str, Any]:
    """Return an account."""
    texts = ("id", "name", "currency", "billing_name", "billing_address", "billing_email", "tax_id")
    return {
        "object": "account",
        **{name: getattr(row, name) for name in texts},
        "limits": _limits(row),
        "created_at": _unix(row.created_at),
        "suspended_at": _unix(row.suspended_at),
    }


def caller_view(key: Caller) -> dict[str, Any]:
    """Return who is calling."""
    return {
        "object": "caller",
        "id": key.id,
        "account": key.account,
        "user": key.user or None,
        "name": key.name,
        "role": key.role,
        "operator": key.operator,
        "models": None if key.models is None else sorted(key.models),
        "routes": None if key.routes is None else sorted(key.routes),
        "networks": key.networks,
        "limits": key.limits.model_dump(),
        "account_limits": key.account_limits.model_dump(),
        "weight": key.weight,
        "expires_at": key.expires or None,
    }


def audit_view(row: Row[Any]) -> dict[str, Any]:
    """Return an entry of the audit log."""
    return {
        "object": "audit_entry",
        "id": str(row.id),
        "at": _unix(row.at),
        "actor": row.actor,
        "action": row.action,
        "target": row.target,
        "account": row.account_id,
        "details": row.details,
    }


def _limits(row: Row[Any]) -> dict[str, int]:
    return {name: getattr(row, name) for name in LIMITS}


def _unix(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
