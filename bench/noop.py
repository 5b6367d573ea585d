"""The other side of `submit`: the same framework, key check and validation, and nothing else."""

import uvicorn
from fastapi import FastAPI, Request, Response

from api.schemas.jobs import JobRequest
from jobs.settings import get_settings

app = FastAPI()
ANSWER = b'{"id":"job_000000000000000000000000000000","object":"job","status":"queued"}'


@app.get("/health")
async def health() -> Response:
    """Say that the process is up."""
    return Response(b"{}")


@app.post("/v1/jobs")
async def submit(request: Request) -> Response:
    """Validate the body as the real route does."""
    JobRequest.model_validate_json(await request.body())
    return Response(ANSWER, status_code=202, media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(app, port=get_settings().api.port + 1, log_level="warning", access_log=False)
