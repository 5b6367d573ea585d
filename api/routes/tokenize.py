"""vLLM's routes for the tokeniser of a model; a worker answers them without a job."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.http.deps import AppServices, CurrentCaller
from api.http.fast_route import FastRoute
from api.http.json_responses import json_response
from api.http.request_body import read_object
from api.openapi.route_docs import body_of, error_responses
from api.streaming.disconnect import ClientDisconnect
from intake.prompt_limits import check_prompt
from intake.tokenisation import TokeniserQuestion, ask_tokeniser, check_tokenize, find_model
from wire.schemas.tokenize import DetokenizeRequest, TokenizeRequest
from wire.schemas.validation import check_request
from wire.token_objects import detokenize_object, tokenize_object

router = APIRouter(tags=["openai"], route_class=FastRoute)

ERRORS = error_responses(400, 401, 404, 413, 422, 429, 500, 503)


@router.post("/tokenize", openapi_extra=body_of(TokenizeRequest), responses=ERRORS)
async def tokenize(request: Request, caller: CurrentCaller, services: AppServices) -> Response:
    """Return the tokens of a text, or of a chat as the model's template renders it."""
    checked, body = check_request(TokenizeRequest, await read_object(request))
    model = await find_model(services, caller, checked.model)
    check_tokenize(services, checked, model)
    question = TokeniserQuestion(model, "tokenize", body, request.state.limited_address)
    left = ClientDisconnect(request.receive)
    answer = await ask_tokeniser(services, caller, question, left)
    return json_response(tokenize_object(answer, model.max_model_len))


@router.post("/detokenize", openapi_extra=body_of(DetokenizeRequest), responses=ERRORS)
async def detokenize(request: Request, caller: CurrentCaller, services: AppServices) -> Response:
    """Return the text of tokens."""
    checked, body = check_request(DetokenizeRequest, await read_object(request))
    model = await find_model(services, caller, checked.model)
    check_prompt(body, services.settings.limits)
    question = TokeniserQuestion(model, "detokenize", body, request.state.limited_address)
    left = ClientDisconnect(request.receive)
    answer = await ask_tokeniser(services, caller, question, left)
    return json_response(detokenize_object(answer))
