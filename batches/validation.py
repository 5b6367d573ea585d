"""Validates a batch's whole file before any request runs; reports each invalid line, up to a limit.

Invariant: memory grows with the file's custom ids only. Nothing is stored, so that a process that
takes over a batch validates it from the beginning.
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
    """The result of a validation; `model` is set if all requests name the same one."""

    total: int
    model: str | None
    errors: list[LineError]


class Validation:
    """One pass over one file."""

    def __init__(self, services: Services, endpoint: str, owner: Caller) -> None:
        self._services = services
        self._owner = owner
        self._endpoint = endpoint
        self._max_line_bytes = services.settings.limits.body_bytes
        self._limits = services.settings.batches
        self._seen: dict[str, int] = {}
        self._models: dict[str, ServedModel | None] = {}
        self._errors: list[LineError] = []
        self._total = 0
        self._unreported = 0

    async def run(self, file_id: str, size: int) -> Verdict:
        """Validate the file, up to `batches.max_lines` requests.

        Args:
            file_id: The file of requests.
            size: Its length in bytes.

        Raises:
            FilesUnavailable, StoreUnavailable: retry later.
            ObjectMissing: the file no longer exists.
        """
        name = object_name(file_id)
        reader = LineReader(self._services.object_store, name, size, self._max_line_bytes)
        while (lines := await reader.next()) is not None:
            for line in lines:
                self._total += 1
                if self._total > self._limits.max_lines:
                    return self._verdict()
                await self._check_line(line)
        return self._verdict()

    async def _check_line(self, line: RequestLine) -> None:
        try:
            request = read_request(line.raw, self._endpoint, self._max_line_bytes)
            self._check_unique(request, line.number)
            await self._check_model(request)
        except BadLine as error:
            if len(self._errors) < self._limits.max_errors:
                self._errors.append(LineError(error.code, error.message, line.number, error.param))
            else:
                self._unreported += 1

    def _check_unique(self, request: LineRequest, number: int) -> None:
        first = self._seen.setdefault(request.custom_id, number)
        if first != number:
            text = f"custom_id: lines {first} and {number} have the same custom_id"
            raise BadLine("duplicate_custom_id", text, "custom_id")

    async def _check_model(self, request: LineRequest) -> None:
        name = request.checked.model
        if name not in self._models:
            self._models[name] = await self._find_model(name)
        model = self._models[name]
        if self._owner.models is not None and name not in self._owner.models:
            text = "body.model: the API key may not use this model"
            raise BadLine("model_forbidden", text, "body.model")
        if model is None:
            raise BadLine("model_not_found", "body.model: model not found", "body.model")
        check_fit(request, self._endpoint, model, self._services.settings)

    async def _find_model(self, name: str) -> ServedModel | None:
        try:
            return await self._services.models.get(name)
        except ModelNotFound:
            return None

    def _verdict(self) -> Verdict:
        errors = self._errors
        limit = self._limits.max_lines
        if self._total > limit:
            text = f"The file has more than {limit} requests"
            errors.append(LineError("too_many_requests", text))
        elif not self._total:
            errors.append(LineError("empty_file", "The file has no requests"))
        if self._unreported:
            text = f"{self._unreported} more lines are invalid"
            errors.append(LineError("more_errors", text))
        models = list(self._models)
        return Verdict(self._total, models[0] if len(models) == 1 else None, errors)
