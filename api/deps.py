"""What routes ask for by type."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from api.auth import authenticate
from api.services import Services
from jobs.accounts import ApiKey


async def services(request: Request) -> Services:
    """Return what `create_app` opened."""
    found: Services = request.app.state.services
    return found


Api = Annotated[Services, Depends(services)]
Caller = Annotated[ApiKey, Depends(authenticate)]
