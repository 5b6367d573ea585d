"""What routes ask for by type."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from accounts.caller import Caller
from accounts.directory import SigningIn
from api.security.authentication import authenticate
from intake.services import Services


async def services(request: Request) -> Services:
    """Return what `create_app` opened."""
    found: Services = request.app.state.services
    return found


async def signing_in(request: Request) -> SigningIn:
    """Return what signs people in."""
    found: SigningIn = request.app.state.signing_in
    return found


Api = Annotated[Services, Depends(services)]
Signing = Annotated[SigningIn, Depends(signing_in)]
CurrentCaller = Annotated[Caller, Depends(authenticate)]
