"""The body of the plain generate routes."""

from typing import Any

from pydantic import Field

from wire.schemas.sampling import Body, ModelName

DEFAULT_TOKENS = 256


class GenerateRequest(Body):
    """`POST /v1/generate`; without a model, the first served model is used."""

    prompt: str = Field(min_length=1)
    model: ModelName | None = None
    max_tokens: int = Field(default=DEFAULT_TOKENS, ge=1, le=2048)
    temperature: float = Field(default=0.7, ge=0, le=2)
    top_p: float = Field(default=0.9, ge=0, le=1)
    stream: bool = Field(default=False, description="answer like `POST /v1/generate/stream`")

    def as_completion(self, model: str) -> dict[str, Any]:
        """Convert the request into the body of a text completion for this model."""
        # top_p 0 keeps only the most likely token, which is greedy decoding; vLLM rejects 0.
        greedy = self.top_p == 0
        return {
            "model": model,
            "prompt": self.prompt,
            "max_tokens": self.max_tokens,
            "temperature": 0 if greedy else self.temperature,
            "top_p": 1 if greedy else self.top_p,
        }
