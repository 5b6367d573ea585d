"""Objects of accounts, users, keys and audit entries; none contains a hash or a secret."""

from datetime import datetime
from typing import Any

from accounts.caller import Caller
from accounts.records import AccountRecord, KeyRecord, UserRecord
from core.db.audit import AuditRecord


def key_view(row: KeyRecord) -> dict[str, Any]:
    """Build a key object, without the secret."""
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
        "limits": row.limits.model_dump(),
        "weight": row.weight,
        "created_at": _unix(row.created_at),
        "expires_at": _unix(row.expires_at),
        "revoked_at": _unix(row.revoked_at),
        "rotated_from": row.rotated_from,
    }


def user_view(row: UserRecord) -> dict[str, Any]:
    """Build a user object."""
    return {
        "object": "user",
        "id": row.id,
        "account": row.account_id,
        "email": row.email,
        "role": row.role,
        "operator": row.operator,
        "has_password": row.password_hash is not None,
        "models": row.models,
        "routes": row.routes,
        "networks": row.networks,
        "limits": row.limits.model_dump(),
        "created_at": _unix(row.created_at),
        "disabled_at": _unix(row.disabled_at),
    }


def account_view(row: AccountRecord) -> dict[str, Any]:
    """Build an account object."""
    return {
        "object": "account",
        "id": row.id,
        "name": row.name,
        "currency": row.currency,
        "billing_name": row.billing_name,
        "billing_address": row.billing_address,
        "billing_email": row.billing_email,
        "tax_id": row.tax_id,
        "limits": row.limits.model_dump(),
        "created_at": _unix(row.created_at),
        "suspended_at": _unix(row.suspended_at),
        "deleted_at": _unix(row.deleted_at),
    }


def caller_view(caller: Caller) -> dict[str, Any]:
    """Build the object of the caller."""
    return {
        "object": "caller",
        "id": caller.id,
        "account": caller.account,
        "user": caller.user or None,
        "name": caller.name,
        "role": caller.role,
        "operator": caller.operator,
        "models": None if caller.models is None else sorted(caller.models),
        "routes": None if caller.routes is None else sorted(caller.routes),
        "networks": caller.networks,
        "limits": caller.limits.model_dump(),
        "user_limits": caller.user_limits.model_dump(),
        "account_limits": caller.account_limits.model_dump(),
        "weight": caller.weight,
        "expires_at": caller.expires or None,
    }


def audit_view(row: AuditRecord) -> dict[str, Any]:
    """Build the object of an audit entry."""
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


def _unix(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
