"""The response object of OpenAI's Responses API, built from a job and its result."""

from typing import Any

from billing.pricing.rating import Cost
from jobs.events import Usage
from jobs.job import Job
from jobs.result import JobResult, ResultChoice
from jobs.status import Status
from wire.error_bodies import from_ending
from wire.views.cost import usage_cost
from wire.views.response_items import ItemStatus, OutputItems

TEXT: dict[str, Any] = {"type": "text"}


def response_id(job_id: str) -> str:
    """Return the response id of a job."""
    return f"resp_{job_id.removeprefix('job_')}"


def job_id_of(response: str) -> str:
    """Return the job id of a response; empty if the text is no response id."""
    kind, _, suffix = response.partition("_")
    return f"job_{suffix}" if kind == "resp" else ""


def whole_response(job: Job, result: JobResult, cost: Cost | None = None) -> dict[str, Any]:
    """Build the response object from a job's record and the result so far."""
    status = Status(result.status or job.status)
    choice = result.choices.get(0) or ResultChoice()
    items = output_items(job, choice) if status.is_terminal else []
    shown = response_head(job, response_status(status, choice.finish_reason), items)
    if status.is_terminal:
        finished = result.finished_at or job.finished / 1000
        add_end(shown, status, choice.finish_reason, finished)
        shown["error"] = error_object(status, result.error or job.error, job.id)
        shown["usage"] = usage_object(result.usage or usage_of(job), items, cost)
    return shown


def output_items(job: Job, choice: ResultChoice) -> list[dict[str, Any]]:
    """Build the output items of a finished choice."""
    output = OutputItems(job.id.removeprefix("job_"))
    probabilities = [item for piece in choice.logprobs for item in piece.get("content") or ()]
    for delta in choice.deltas:
        output.add(delta, probabilities)
        probabilities = []
    output.close(item_status(choice.finish_reason))
    return output.items


def item_status(reason: str | None) -> ItemStatus:
    """Return the status of the item that was open when the job ended for this reason."""
    return "completed" if reason not in (None, "length") else "incomplete"


def response_status(status: Status, reason: str | None) -> str:
    """Return OpenAI's status; reaching the output limit makes a response incomplete."""
    if status is Status.COMPLETED and reason == "length":
        return "incomplete"
    return "failed" if status is Status.EXPIRED else status.value


def response_head(job: Job, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    """Build a response object that has not ended."""
    spec, body = job.spec, job.spec.body
    options = spec.response or {}
    return {
        "id": response_id(job.id),
        "object": "response",
        "created_at": job.created // 1000,
        "completed_at": None,
        "status": status,
        "background": options.get("background", False),
        "error": None,
        "incomplete_details": None,
        "instructions": body["messages"][0]["content"] if options.get("instructed") else None,
        "max_output_tokens": body.get("max_completion_tokens"),
        "max_tool_calls": options.get("max_tool_calls"),
        "metadata": spec.metadata,
        "model": job.queue,
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": options.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": body.get("reasoning_effort"), "summary": None},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": spec.service_tier,
        "store": options.get("store", True),
        "temperature": body.get("temperature"),
        "text": _text(body),
        "tool_choice": _tool_choice(body.get("tool_choice", "auto")),
        "tools": [{"type": "function", **tool["function"]} for tool in body.get("tools") or ()],
        "top_logprobs": body.get("top_logprobs", 0),
        "top_p": body.get("top_p"),
        "truncation": "disabled",
        "usage": None,
        "user": body.get("user"),
    }


def add_end(shown: dict[str, Any], status: Status, reason: str | None, finished: float) -> None:
    """Set status and end time of a response object."""
    shown["status"] = response_status(status, reason)
    if status is Status.COMPLETED:
        shown["completed_at"] = int(finished)
    if shown["status"] == "incomplete":
        shown["incomplete_details"] = {"reason": "max_output_tokens"}


def error_object(
    status: Status, error: dict[str, Any] | None, job_id: str
) -> dict[str, Any] | None:
    """Return the error of a response that has no output; None for other statuses."""
    if status not in (Status.FAILED, Status.EXPIRED):
        return None
    problem = from_ending(status, error, job_id)
    shown: dict[str, Any] = problem.as_openai()["error"]
    return {"code": shown["code"], "message": shown["message"]}


def usage_of(job: Job) -> Usage:
    """Return the usage that a job's record holds."""
    return Usage(
        input_tokens=job.input_tokens,
        cached_input_tokens=job.cached_input_tokens,
        output_tokens=job.output_tokens,
    )


def usage_object(
    usage: Usage, items: list[dict[str, Any]], cost: Cost | None = None
) -> dict[str, Any]:
    """Build the usage object; reasoning tokens are not counted separately."""
    has_reasoning = any(item["type"] == "reasoning" for item in items)
    return {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": {
            "cached_tokens": usage["cached_input_tokens"],
            "cache_write_tokens": 0,
        },
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": None if has_reasoning else 0},
        "total_tokens": usage["input_tokens"] + usage["output_tokens"],
        **usage_cost(cost),
    }


def _text(body: dict[str, Any]) -> dict[str, Any]:
    text_format: dict[str, Any] = body.get("response_format") or TEXT
    if text_format["type"] == "json_schema":
        text_format = {"type": "json_schema", **text_format["json_schema"]}
    shown = {"format": text_format}
    return {**shown, "verbosity": body["verbosity"]} if body.get("verbosity") else shown


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, dict):
        return {"type": "function", "name": choice["function"]["name"]}
    return choice
