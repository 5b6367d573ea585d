"""The table of permissions covers every route and decides correctly."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.routing import Route

from accounts.caller import Caller, Role
from api.app import create_app
from core.errors import Forbidden
from core.settings.tree import Settings
from intake.permissions import TABLE, check_route
from wire.route_groups import ROUTE_GROUPS


def routes() -> Iterator[str]:
    app = create_app(Settings(_env_file=None))
    for route in app.routes:
        assert isinstance(route, Route)
        for method in route.methods or ():
            if method != "HEAD":
                yield f"{method} {route.path}"


def caller(role: Role, **fields: Any) -> Caller:
    return Caller(id="key_1", sha256="", account="acme", role=role, **fields)


def check(route: str, caller: Caller) -> None:
    method, path = route.split(" ", 1)
    check_route(method, path, caller)


def test_every_route_stands_in_the_table_and_nothing_else_does() -> None:
    assert set(routes()) == set(TABLE)


def test_the_route_groups_of_scopes_are_those_of_the_table() -> None:
    assert {access.group for access in TABLE.values()} - {""} == ROUTE_GROUPS


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("route", [name for name, access in TABLE.items() if not access.public])
def test_each_role_reaches_its_routes_only(route: str, role: Role) -> None:
    if role in TABLE[route].roles:
        check(route, caller(role))
    else:
        with pytest.raises(Forbidden, match=role):
            check(route, caller(role))
    check(route, caller(role, operator=True))


def test_a_route_that_is_not_in_the_table_is_refused_even_to_the_operator() -> None:
    with pytest.raises(LookupError, match="POST /v1/new"):
        check("POST /v1/new", caller(Role.ADMIN, operator=True))
