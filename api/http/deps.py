"""Dependencies of routes, as annotated types."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from accounts.caller import Caller
from accounts.directory_factory import SigningIn
from api.security.authentication import authenticate
from intake.services import Services


async def get_services(request: Request) -> Services:
    """Return the services that the application opened at its start."""
    found: Services = request.app.state.services
    return found


async def get_signing_in(request: Request) -> SigningIn:
    """Return the services that sign users in."""
    found: SigningIn = request.app.state.signing_in
    return found


AppServices = Annotated[Services, Depends(get_services)]
Signing = Annotated[SigningIn, Depends(get_signing_in)]
CurrentCaller = Annotated[Caller, Depends(authenticate)]
