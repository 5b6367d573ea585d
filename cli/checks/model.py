"""Checks whether the model can be loaded: its folder, its files and their size."""

import json
from pathlib import Path
from typing import Any

from cli.checks.findings import Finding, fine, problem, warning
from cli.checks.memory import GIB
from core.settings.engine import EngineSettings

CONFIGS = ("config.json", "params.json")
TOKENIZERS = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "tekken.json"),
    "tokenizer.model.v3",
)
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
#: The beginning of the file that Git stores instead of a large one until `git lfs pull`.
LFS_POINTER = b"version https://git-lfs"
NAME = "model"
TAKES = "PENSTOCK_ENGINE__MODEL takes a folder with config.json, or a name on the model hub"


def check_model(engine: EngineSettings) -> Finding:
    """Check the files of the model's folder; a name on the model hub is left to vLLM."""
    model = engine.model
    if engine.kind != "vllm":
        return fine(NAME, f"not needed: the engine is {engine.kind}")
    folder = Path(model).expanduser()
    if folder.is_file():
        return fine(NAME, f"{model} is one file of {folder.stat().st_size / GIB:.1f} GiB")
    if not folder.exists():
        if model.startswith(("/", "./", "../", "~")) or model.count("/") > 1:
            return problem(NAME, f"there is no model at {model}", TAKES)
        return fine(NAME, f"{model} is a name on the model hub; vLLM loads it")
    try:
        return _check_folder(folder, engine)
    except OSError as error:
        advice = f"let the user that runs the worker read it: chmod -R a+rX {folder}"
        return problem(NAME, f"{error.filename} cannot be read ({error.strerror})", advice)


def weights_gib(engine: EngineSettings) -> float:
    """Return the size of the model's weights in GiB; 0 if they are not on this machine."""
    folder = Path(engine.model).expanduser()
    try:
        return sum(path.stat().st_size for path in _weights(folder)) / GIB
    except OSError:
        return 0.0  # `check_model` reports it


def head_size(engine: EngineSettings) -> int | None:
    """Return the size of an attention head from the model's configuration; None: unknown."""
    try:
        config = _read(Path(engine.model).expanduser() / "config.json")
        if config.get("head_dim"):
            return int(config["head_dim"])
        return int(config["hidden_size"]) // int(config["num_attention_heads"])
    except (OSError, ValueError, LookupError, TypeError, ZeroDivisionError):
        return None


def _check_folder(folder: Path, engine: EngineSettings) -> Finding:
    names = {path.name for path in folder.iterdir()}
    config = next((name for name in CONFIGS if name in names), None)
    if config is None:
        return problem(NAME, f"{folder} has no config.json, so it is no model", TAKES)
    try:
        _read(folder / config)
    except ValueError as error:
        return problem(
            NAME, f"{folder / config} is not a JSON object: {error}", "download it again"
        )
    if not names.intersection(TOKENIZERS):
        return problem(
            NAME, f"{folder} has no tokenizer", "copy the model's tokenizer.json into it"
        )
    weights = _weights(folder)
    for path in weights:
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                text = f"{path} is a pointer of Git LFS, not the file itself"
                return problem(NAME, text, f"in {folder}: git lfs pull")
    if not weights:
        return warning(NAME, f"{folder} has no weights (safetensors)", "download the model again")
    size = weights_gib(engine)
    words = f"{size:.1f} GiB" if size >= 0.1 else f"{size * 1024:.1f} MiB"
    return fine(NAME, f"{engine.served_name}: {words} of weights in {folder}")


def _weights(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.suffix in WEIGHTS]
    safe = [path for path in found if path.suffix == ".safetensors"]
    return safe or found  # vLLM prefers safetensors


def _read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise ValueError("another type")  # noqa: TRY004 - as for invalid JSON
    return found
