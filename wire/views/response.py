"""The response object of OpenAI's Responses API: another view of a job and what it produced."""

from typing import Any

from billing.pricing.rating import Cost
from jobs.events import Usage
from jobs.job import Job
from jobs.result import JobResult, ResultChoice
from jobs.status import Status
from wire.problems import from_ending
from wire.views.cost import cost_object
from wire.views.response_items import Ending, Items

TEXT: dict[str, Any] = {"type": "text"}


def response_id(job_id: str) -> str:
    """Return what a job is called where it is a response."""
    return f"resp_{job_id.removeprefix('job_')}"


def job_id_of(response: str) -> str:
    """Return which job a response is; empty when this cannot be one."""
    kind, _, suffix = response.partition("_")
    return f"job_{suffix}" if kind == "resp" else ""


def whole_response(job: Job, result: JobResult, cost: Cost | None = None) -> dict[str, Any]:
    """Return the response as its job's log leaves it."""
    status = Status(result.status or job.status)
    choice = result.choices.get(0) or ResultChoice()
    items = output_of(job, choice) if status.is_terminal else []
    shown = head(job, word(status, choice.finish_reason), items)
    if status.is_terminal:
        finished = result.finished_at or job.finished / 1000
        end(shown, status, choice.finish_reason, finished)
        shown["error"] = error_object(status, result.error or job.error, job.id)
        shown["usage"] = usage_object(result.usage or usage_of(job), items, cost)
    return shown


def output_of(job: Job, choice: ResultChoice) -> list[dict[str, Any]]:
    """Return the items of a finished choice."""
    made = Items(job.id.removeprefix("job_"))
    probabilities = [one for piece in choice.logprobs for one in piece.get("content") or ()]
    for delta in choice.deltas:
        made.add(delta, probabilities)
        probabilities = []
    made.close(ending_of(choice.finish_reason))
    return made.items


def ending_of(reason: str | None) -> Ending:
    """Return what an item is that was open when the job ended for this reason."""
    return "completed" if reason not in (None, "length") else "incomplete"


def word(status: Status, reason: str | None) -> str:
    """Return OpenAI's word for a status; a limit that was reached makes it incomplete."""
    if status is Status.COMPLETED and reason == "length":
        return "incomplete"
    return "failed" if status is Status.EXPIRED else status.value


def head(job: Job, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a response that has not ended."""
    spec, body = job.spec, job.spec.body
    told = spec.response or {}
    return {
        "id": response_id(job.id),
        "object": "response",
        "created_at": job.created // 1000,
        "completed_at": None,
        "status": status,
        "background": told.get("background", False),
        "error": None,
        "incomplete_details": None,
        "instructions": body["messages"][0]["content"] if told.get("instructed") else None,
        "max_output_tokens": body.get("max_completion_tokens"),
        "max_tool_calls": told.get("max_tool_calls"),
        "metadata": spec.metadata,
        "model": job.queue,
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": told.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": body.get("reasoning_effort"), "summary": None},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": spec.service_tier,
        "store": told.get("store", True),
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


def end(shown: dict[str, Any], status: Status, reason: str | None, finished: float) -> None:
    """Write into a response how and when it ended."""
    shown["status"] = word(status, reason)
    if status is Status.COMPLETED:
        shown["completed_at"] = int(finished)
    if shown["status"] == "incomplete":
        shown["incomplete_details"] = {"reason": "max_output_tokens"}


def error_object(
    status: Status, error: dict[str, Any] | None, job_id: str
) -> dict[str, Any] | None:
    """Return why there is no answer."""
    if status not in (Status.FAILED, Status.EXPIRED):
        return None
    problem = from_ending(status, error, job_id)
    shown: dict[str, Any] = problem.as_openai()["error"]
    return {"code": shown["code"], "message": shown["message"]}


def usage_of(job: Job) -> Usage:
    """Return what a job's record says was used."""
    return Usage(
        input_tokens=job.input_tokens,
        cached_input_tokens=job.cached_input_tokens,
        output_tokens=job.output_tokens,
    )


def usage_object(
    usage: Usage, items: list[dict[str, Any]], cost: Cost | None = None
) -> dict[str, Any]:
    """Return usage in this API's words; tokens of reasoning are not counted apart."""
    thought = any(item["type"] == "reasoning" for item in items)
    shown = {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": {
            "cached_tokens": usage["cached_input_tokens"],
            "cache_write_tokens": 0,
        },
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": None if thought else 0},
        "total_tokens": usage["input_tokens"] + usage["output_tokens"],
    }
    if cost is not None:
        shown["cost"] = cost_object(cost)
    return shown


def _text(body: dict[str, Any]) -> dict[str, Any]:
    form: dict[str, Any] = body.get("response_format") or TEXT
    if form["type"] == "json_schema":
        form = {"type": "json_schema", **form["json_schema"]}
    shown = {"format": form}
    return {**shown, "verbosity": body["verbosity"]} if body.get("verbosity") else shown


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, dict):
        return {"type": "function", "name": choice["function"]["name"]}
    return choice
