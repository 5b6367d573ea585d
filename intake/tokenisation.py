"""Requests to a model's tokeniser: checks them as a job's prompt, and waits for a worker's answer.

They are no jobs: they cost nothing, and they are lost with the process that has them. Invariant:
what is refused here is refused for the reason that the same prompt of a job is.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from accounts.caller import Caller
from core import metrics
from core.errors import InvalidJob, PipelineError, TokeniserUnavailable
from intake.admission import quota_for
from intake.errors import ShuttingDown
from intake.function_chat import with_tools
from intake.lifetime.request_lifetime import Disconnected, EndReason, RequestLifetime
from intake.permissions import check_model
from intake.prompt_limits import check_prompt
from intake.request_checks import check_task
from intake.request_limits.complexity import check_complexity, check_template_and_tools
from intake.request_limits.media_types import check_media
from intake.services import Services
from jobs.media import chat_parts, check_parts
from jobs.model_registry import ServedModel
from jobs.tokenising.messages import Kind, TokeniserAnswer
from wire.schemas.sampling import TRANSPORT, ModelRequest
from wire.schemas.tokenize import TokenizeRequest

#: Outcomes that are no error, as the metric has them.
ANSWERED, LEFT = "answered", "client-left"
#: Retry-After in seconds when no worker has answered in time.
LATE_SECONDS = 5.0
CHAT = "/v1/chat/completions"


class TokeniserQuestion(NamedTuple):
    """A checked request to a tokeniser.

    Attributes:
        model: The model.
        kind: What is asked.
        body: The body as `TokeniserRequest` has it; nulls and fields for the API are left out.
        address: The client's address, if it is limited.
        fields: Names of fields in the client's body by their names in `body`, for errors.
    """

    model: ServedModel
    kind: Kind
    body: dict[str, Any]
    address: str
    fields: Mapping[str, str] = MappingProxyType({})


async def find_model(services: Services, caller: Caller, name: str | None) -> ServedModel:
    """Return the model of a request; without a name, the only one that the caller may use.

    Raises:
        ModelNotFound: the model is unknown.
        ModelForbidden: the API key's scopes exclude it.
        InvalidJob: the caller may use several models, or none, and names none.
    """
    if name is not None:
        check_model(caller, name)
        return await services.models.get(name)
    models = await services.models.all()
    allowed = [model for model in models if caller.models is None or model.name in caller.models]
    if len(allowed) != 1:
        text = f"model: required field, because {len(allowed)} models can be meant"
        raise InvalidJob(text, param="model")
    return allowed[0]


def check_tokenize(services: Services, checked: TokenizeRequest, model: ServedModel) -> None:
    """Refuse what the chat or the text of a job must not have, either.

    Raises:
        InvalidJob: naming the field.
    """
    body = checked.model_dump(include={"prompt", "messages"}, exclude_none=True)
    settings = services.settings
    check_prompt(body, settings.limits)
    check_parts(chat_parts(body.get("messages")), model.name, model.modalities, settings.media)
    tools = [tool.function for tool in checked.tools or ()]
    check_template_and_tools(checked.chat_template_kwargs, tools, settings.complexity)


def check_count(
    services: Services, checked: ModelRequest, body: dict[str, Any], model: ServedModel
) -> None:
    """Refuse a chat that could not be a job.

    Args:
        services: What the process shares.
        checked: The request as the schema read it.
        body: The chat that it means.
        model: The model.

    Raises:
        InvalidJob, UnsupportedModel: naming the field.
    """
    settings = services.settings
    check_task(model, CHAT)
    check_prompt(body, settings.limits)
    check_media(checked, body, model, settings.media)
    check_complexity(checked, settings.complexity)


async def ask_tokeniser(
    services: Services, caller: Caller, question: TokeniserQuestion, disconnected: Disconnected
) -> TokeniserAnswer:
    """Wait for a worker's answer.

    Args:
        services: What the process shares.
        caller: The caller; a request counts for its rates of requests.
        question: What is asked.
        disconnected: Returns when the client has disconnected.

    Raises:
        InvalidJob, ContextLengthExceeded: the tokeniser refuses it.
        RateLimited, QueueFull, TokeniserUnavailable, ShuttingDown, StoreUnavailable: retry later.
        EngineError: the worker could not answer.
    """
    model = question.model
    body = {
        name: value
        for name, value in with_tools(question.body).items()
        if value is not None and name not in TRANSPORT
    }
    quota = quota_for(services, caller, question.address)
    seconds = services.settings.tokeniser.wait_seconds
    lifetime = RequestLifetime(disconnected, services.open_requests, seconds, gets_grace=True)
    outcome = LEFT
    try:
        async with lifetime:
            answer = await services.tokeniser.ask(
                model.name, caller.account, quota, question.kind, body
            )
            outcome = ANSWERED
            return answer
        raise _unanswered(lifetime.ended, model.name, seconds)
    except PipelineError as error:
        outcome = LEFT if lifetime.ended is EndReason.CLIENT else error.code
        error.param = question.fields.get(error.param or "", error.param)
        raise
    finally:
        metrics.tokeniser_requests.labels(model.name, outcome).inc()


def _unanswered(reason: EndReason | None, model: str, seconds: float) -> PipelineError:
    if reason is EndReason.SERVER:
        return ShuttingDown("This server is shutting down", retry_after_seconds=1)
    return TokeniserUnavailable(
        f"no worker of model {model!r} answered within {seconds:g} s",
        retry_after_seconds=LATE_SECONDS,
    )
