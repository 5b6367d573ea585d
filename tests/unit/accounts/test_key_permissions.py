"""Which keys each kind of caller may manage, and what it may give them."""

from typing import Any

import pytest

from accounts.api_keys import EVERYBODY, KeyFilter
from accounts.caller import Caller, Role
from accounts.key_permissions import check_account, check_grant, managed_keys
from core.errors import Forbidden


def key(role: Role, **fields: Any) -> Caller:
    return Caller(id="key_1", account="acme", role=role, **fields)


def person(role: Role) -> Caller:
    return Caller(id="user_1", user="user_1", account="acme", role=role)


OPERATOR = key(Role.VIEWER, operator=True)


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        (OPERATOR, EVERYBODY),
        (key(Role.ADMIN), KeyFilter("acme")),
        (person(Role.ADMIN), KeyFilter("acme")),
        (person(Role.MEMBER), KeyFilter("acme", "user_1")),
    ],
)
def test_a_caller_manages_these_keys(caller: Caller, expected: KeyFilter) -> None:
    assert managed_keys(caller) == expected


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER, Role.BILLING])
def test_a_key_without_the_admin_role_manages_no_keys(role: Role) -> None:
    with pytest.raises(Forbidden, match="signed-in user"):
        managed_keys(key(role, user="user_1"))


def test_only_the_operator_creates_keys_for_another_account() -> None:
    assert check_account(person(Role.MEMBER), None) == "acme"
    assert check_account(person(Role.MEMBER), "acme") == "acme"
    assert check_account(OPERATOR, "other") == "other"
    with pytest.raises(Forbidden):
        check_account(person(Role.ADMIN), "other")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("given", Role)
def test_only_an_admin_gives_a_role_above_its_own(role: Role, given: Role) -> None:
    allowed = given is role or role is Role.ADMIN or (role, given) == (Role.MEMBER, Role.VIEWER)
    if allowed:
        check_grant(person(role), given, {"role"})
    else:
        with pytest.raises(Forbidden, match=given):
            check_grant(person(role), given, {"role"})


def test_weight_is_set_by_the_operator_and_limits_by_admins() -> None:
    check_grant(OPERATOR, Role.ADMIN, {"weight", "limits"})
    check_grant(person(Role.ADMIN), Role.MEMBER, {"limits"})
    with pytest.raises(Forbidden) as refused:
        check_grant(person(Role.ADMIN), Role.MEMBER, {"weight"})
    assert refused.value.param == "weight"
    with pytest.raises(Forbidden) as refused:
        check_grant(person(Role.MEMBER), Role.MEMBER, {"limits"})
    assert refused.value.param == "limits"
