"""Which API keys a caller may manage, and which rights it may give them.

Invariant: no caller gives a key more than its own role may give.
"""

from collections.abc import Collection

from accounts.api_keys import EVERYBODY, KeyFilter
from accounts.bounds import Rank
from accounts.cache_records import LENDS
from accounts.caller import Caller, Role
from core.errors import Forbidden


def managed_keys(caller: Caller) -> KeyFilter:
    """Return the filter for the keys that a caller may manage.

    The operator manages all keys, an admin those of the account, other users their own.

    Raises:
        Forbidden: The caller is a key without the admin role. Such a key manages no keys;
            otherwise a stolen key could create its own replacement.
    """
    if caller.operator:
        return EVERYBODY
    if caller.role is Role.ADMIN:
        return KeyFilter(caller.account)
    if caller.id != caller.user:
        raise Forbidden("Keys are managed by an admin or by a signed-in user")
    return KeyFilter(caller.account, caller.user)


def rank_of(caller: Caller) -> Rank:
    """Return the rank with which a caller sets and lifts bounds of keys."""
    if caller.operator:
        return Rank.OPERATOR
    return Rank.ADMIN if caller.role is Role.ADMIN else Rank.USER


def check_account(caller: Caller, account: str | None) -> str:
    """Return the account for a new key: the requested one, or the caller's.

    Raises:
        Forbidden: Only the operator creates keys for other accounts.
    """
    if account not in (None, caller.account) and not caller.operator:
        raise Forbidden("Only the operator creates keys for other accounts", param="account")
    return account or caller.account


def check_grant(caller: Caller, role: Role, fields: Collection[str]) -> None:
    """Check that a caller may give a key these rights.

    Args:
        caller: Who creates or changes the key.
        role: The role that the key is to have.
        fields: Names of the fields that the caller sets.

    Raises:
        Forbidden: The caller may not give the role, the limits or the weight.
    """
    if caller.operator:
        return
    if "weight" in fields:
        raise Forbidden("Only the operator sets the weight of a key", param="weight")
    if role not in LENDS[caller.role]:
        raise Forbidden(f"The role {caller.role} cannot give the role {role}", param="role")
    if "limits" in fields and caller.role is not Role.ADMIN:
        raise Forbidden("Only an admin sets the limits of a key", param="limits")
