"""Routes that are called directly, without FastAPI's resolver.

Where the body is read by hand, all there is to resolve is the caller and the services; doing
just that takes a quarter off a submission. The OpenAPI document is the same.
"""

from collections.abc import Callable
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from api.security.authentication import authenticate


class DirectRoute(APIRoute):
    """Calls `endpoint(request=..., key=..., api=...)`, which returns a response."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive, send)
            key = await authenticate(request)
            response = await endpoint(request=request, key=key, api=scope["app"].state.services)
            await response(scope, receive, send)

        self.app = app
