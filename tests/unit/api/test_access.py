"""The table of who may call what is complete, and decides as it says."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.routing import Route

from accounts.caller import Caller, Role
from api.app import create_app
from core.errors import Forbidden
from core.settings.tree import Settings
from intake.permissions import TABLE, check_access


def routes() -> Iterator[str]:
    app = create_app(Settings(_env_file=None))  # type: ignore[call-arg]
    for route in app.routes:
        assert isinstance(route, Route)
        for method in route.methods or ():
            if method != "HEAD":
                yield f"{method} {route.path}"


def caller(role: Role, **fields: Any) -> Caller:
    return Caller(id="key_1", sha256="", account="acme", role=role, **fields)


def scope(route: str) -> dict[str, Any]:
    method, path = route.split(" ", 1)
    return {"method": method, "route": SimpleNamespace(path=path)}


def test_every_route_stands_in_the_table_and_nothing_else_does() -> None:
    assert set(routes()) == set(TABLE)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("route", [name for name, access in TABLE.items() if not access.public])
def test_each_role_reaches_its_routes_only(route: str, role: Role) -> None:
    if role in TABLE[route].roles:
        check_access(scope(route), caller(role))
    else:
        with pytest.raises(Forbidden, match=role):
            check_access(scope(route), caller(role))
    check_access(scope(route), caller(role, admin=True))


def test_a_route_that_is_not_in_the_table_is_refused_even_to_the_operator() -> None:
    with pytest.raises(LookupError, match="POST /v1/new"):
        check_access(scope("POST /v1/new"), caller(Role.ADMIN, admin=True))
