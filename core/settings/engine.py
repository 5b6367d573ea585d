"""Settings of the engine that a worker drives, and of its circuit breaker."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from core.settings.base import SettingsGroup

TINY_MODEL = Path(__file__).resolve().parents[2] / "models" / "tiny"

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
Task = Literal["generate", "embed"]
Modality = Literal["text", "image", "video", "audio"]


class SimulatedSettings(SettingsGroup):
    """Latency model and scripted faults of the `simulated` engine (tests, load, planning)."""

    start_seconds: float = Field(default=0.0, ge=0, description="Seconds to load the model.")
    prefill_tokens_per_second: float = Field(
        default=50_000.0, gt=0, description="Input tokens computed per second."
    )
    step_base_seconds: float = Field(
        default=0.004, ge=0, description="Seconds of one step without sequences."
    )
    step_per_sequence_seconds: float = Field(
        default=0.00005, ge=0, description="Seconds that each sequence adds to a step."
    )
    faults: bool = Field(default=False, description="Obey fault directives found in prompts.")


class EngineSettings(SettingsGroup):
    """Which engine a worker drives and how."""

    kind: Literal["vllm", "simulated"] = Field(
        default="vllm",
        description="Engine: `vllm`, or `simulated` (a latency model for tests and planning).",
    )
    model: str = Field(
        default=str(TINY_MODEL),
        description="Folder of the model, or its name on the model hub.",
    )
    served_name: ModelName = Field(
        default="penstock-tiny",
        description="Name of the model that clients use; it also names the queue.",
    )
    task: Task = Field(
        default="generate", description="What the model does: `generate` (text) or `embed`."
    )
    core: Literal["in-process", "separate"] = Field(
        default="in-process",
        description="Where vLLM's core runs: `in-process` (starts faster) or `separate` (a process"
        " of its own, which works while the GPU computes).",
    )
    slots: int = Field(
        default=32, ge=1, le=1024, description="Maximum number of jobs that run at the same time."
    )
    dtype: str = Field(default="bfloat16", description="Number format of the weights.")
    max_model_len: int | None = Field(
        default=None, ge=16, description="Longest context in tokens. Not set: the model's own."
    )
    enforce_eager: bool | None = Field(
        default=None,
        description="true: do not compile graphs. Not set: compile on a GPU, not on a CPU.",
    )
    quantization: str | None = Field(
        default=None,
        description="Quantization such as `fp8` or `awq`. Not set: what the model states.",
    )
    gpu_memory_utilization: float = Field(
        default=0.9, gt=0, le=1, description="Share of the GPU's memory that vLLM uses."
    )
    kv_cache_gib: int = Field(default=1, ge=1, description="CPU only: size of the KV cache in GiB.")
    cpu_amx: bool = Field(
        default=False,
        description="CPU only: let vLLM use its AMX kernels; they crash on some machines.",
    )
    tool_parser: str | None = Field(
        default=None,
        description="vLLM's parser for tool calls, such as `hermes`; `none`: the model calls no"
        " tools. Not set: chosen by the model's chat template and architecture.",
    )
    reasoning_parser: str | None = Field(
        default=None, description="vLLM's parser for reasoning, such as `deepseek_r1`."
    )
    chat_template: Path | None = Field(
        default=None, description="File with a chat template. Not set: the model's own."
    )
    grammar_helpers: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Number of helper processes that compile the grammars of structured outputs"
        " before the engine does.",
    )
    grammar_seconds: float = Field(
        default=5.0,
        gt=0,
        description="Maximum seconds of CPU time to compile one grammar; a longer one is refused.",
    )
    grammar_memory_bytes: int = Field(
        default=1024**3,
        ge=64 * 1024**2,
        description="Maximum bytes of memory that the compilation of one grammar may use.",
    )
    grammar_compiled_bytes: int = Field(
        default=64 * 1024**2, ge=1024, description="Maximum size in bytes of a compiled grammar."
    )
    grammar_token_seconds: float = Field(
        default=0.005,
        gt=0,
        description="Maximum seconds of CPU time that a grammar may need for one token; ambiguous"
        " grammars need more with each token.",
    )
    grammar_cache: int = Field(
        default=256,
        ge=1,
        description="Number of grammars per account whose verdict a worker remembers.",
    )
    render_helpers: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Number of helper processes that render and tokenise large requests.",
    )
    render_inline_characters: int = Field(
        default=16_000,
        ge=0,
        description="Largest request in characters that the engine's process renders itself; each"
        " message counts 80 more. A larger one is rendered by a helper.",
    )
    render_seconds: float = Field(
        default=10.0,
        gt=0,
        description="Maximum seconds of CPU time to render a large request, and to tokenise it.",
    )
    render_memory_bytes: int = Field(
        default=1024**3,
        ge=64 * 1024**2,
        description="Maximum bytes of memory that rendering or tokenising one request may use.",
    )
    render_characters: int = Field(
        default=8_000_000,
        ge=1_000,
        description="Maximum length in characters of a rendered prompt of a large request.",
    )
    image_pixels: int = Field(
        default=4096 * 4096,
        ge=1,
        description="Maximum number of pixels of an image that a client sends; it is read before"
        " the image is decompressed.",
    )
    extra_args: dict[str, object] = Field(
        default_factory=dict,
        description="JSON object of more engine arguments; they are passed to vLLM unchanged.",
    )
    simulated: SimulatedSettings = SimulatedSettings()


class BreakerSettings(SettingsGroup):
    """When a worker stops claiming jobs because its engine fails repeatedly."""

    failures: int = Field(
        default=5,
        ge=1,
        description="Number of engine failures within the window that open the circuit breaker.",
    )
    failure_rate: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the generations within the window that must have failed too, for"
        " example 0.5. 0: only the failures since the last success count, whatever their share.",
    )
    window_seconds: float = Field(
        default=30.0, gt=0, description="Length in seconds of the window for failures."
    )
    successes: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Number of successful probes, one after the other, that close the breaker.",
    )
    cooldown_seconds: float = Field(
        default=5.0, gt=0, description="Seconds the breaker stays open before a probe."
    )
    probe_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Maximum seconds that the probe may take."
    )
