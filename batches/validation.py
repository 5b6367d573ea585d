"""Validates a whole file before any of it runs: every broken line is named, up to a bound.

Invariant: memory does not grow with the file but for its custom ids; nothing is kept, so that
whoever takes a batch over begins anew.
"""

from typing import NamedTuple

from accounts.caller import Caller
from batches.line_check import BadLine, LineError, LineRequest, check_fit, read_request
from batches.line_reader import LineReader, RequestLine
from core.errors import ModelNotFound
from files.repository import object_name
from intake.services import Services
from jobs.model_registry import ServedModel


class Verdict(NamedTuple):
    """What a file was found to be; `model` is set where all its requests name the same one."""

    total: int
    model: str | None
    complaints: list[LineError]


class Validation:
    """One pass over one file."""

    def __init__(self, api: Services, endpoint: str, caller: Caller) -> None:
        self._api = api
        self._caller = caller
        self._endpoint = endpoint
        self._longest = api.settings.limits.body_bytes
        self._limits = api.settings.batches
        self._seen: dict[str, int] = {}
        self._models: dict[str, ServedModel | None] = {}
        self._complaints: list[LineError] = []
        self._total = 0
        self._more = 0

    async def run(self, file_id: str, size: int) -> Verdict:
        """Read the file to its end, or to its bound.

        Raises:
            FilesUnavailable, StoreUnavailable: come back later.
            ObjectMissing: the file is gone.
        """
        reader = LineReader(self._api.object_store, object_name(file_id), size, self._longest)
        while (lines := await reader.next()) is not None:
            for line in lines:
                self._total += 1
                if self._total > self._limits.max_lines:
                    return self._verdict()
                await self._look(line)
        return self._verdict()

    async def _look(self, line: RequestLine) -> None:
        try:
            request = read_request(line.raw, self._endpoint, self._longest)
            self._check_unique(request, line.number)
            await self._check_model(request)
        except BadLine as error:
            if len(self._complaints) < self._limits.max_errors:
                complaint = LineError(error.code, error.message, line.number, error.param)
                self._complaints.append(complaint)
            else:
                self._more += 1

    def _check_unique(self, request: LineRequest, number: int) -> None:
        first = self._seen.setdefault(request.custom_id, number)
        if first != number:
            text = f"custom_id: lines {first} and {number} have the same one"
            raise BadLine("duplicate_custom_id", text, "custom_id")

    async def _check_model(self, request: LineRequest) -> None:
        name = request.checked.model
        if name not in self._models:
            self._models[name] = await self._find(name)
        model = self._models[name]
        if self._caller.models is not None and name not in self._caller.models:
            raise BadLine("model_forbidden", "body.model: this key may not use it", "body.model")
        if model is None:
            raise BadLine("model_not_found", "body.model: no such model here", "body.model")
        check_fit(request, self._endpoint, model)

    async def _find(self, name: str) -> ServedModel | None:
        try:
            return await self._api.models.get(name)
        except ModelNotFound:
            return None

    def _verdict(self) -> Verdict:
        found = self._complaints
        most = self._limits.max_lines
        if self._total > most:
            found.append(LineError("too_many_requests", f"at most {most} requests are expected"))
        elif not self._total:
            found.append(LineError("empty_file", "the file has no request in it"))
        if self._more:
            found.append(LineError("more_errors", f"{self._more} more lines are wrong"))
        models = list(self._models)
        return Verdict(self._total, models[0] if len(models) == 1 else None, found)
