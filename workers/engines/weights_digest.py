"""A digest of what decides an engine's output: weights, tokenizer, chat template, arguments.

Two workers with the same digest may continue each other's jobs in the middle of a text. It covers,
for a vLLM engine, of each file in the model's folder its name and size; of weights files the first
and last BLOCK_BYTES, and so the header of a safetensors file (names, shapes, types); of all other
files up to WHOLE_BYTES the whole content (configuration, tokenizer); and the settings in ARGUMENTS.
It does not cover bytes in the middle of a weights file, nor versions of vLLM, drivers or hardware.
Invariant: it reads a few megabytes however large the model is, and depends on no path and no time.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import orjson

from core.settings.engine import EngineSettings

#: Settings that change the output of the same weights.
ARGUMENTS = ("kind", "task", "dtype", "quantization", "extra_args")
WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
BLOCK_BYTES = 1_048_576
WHOLE_BYTES = 33_554_432
DIGEST_CHARACTERS = 16


def weights_digest(settings: EngineSettings) -> str:
    """Return the digest of a started engine: 16 hexadecimal characters.

    Raises:
        OSError: a file cannot be read.
    """
    found = hashlib.sha256()
    arguments = settings.model_dump(mode="json", include=set(ARGUMENTS))
    found.update(orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS))
    if settings.kind == "simulated":
        found.update(settings.model.encode())
    else:
        folder = _folder(settings)
        for path in _files(folder):
            found.update(_header(path.relative_to(folder).as_posix(), path))
            for piece in _pieces(path):
                found.update(piece)
    if settings.chat_template is not None:
        found.update(settings.chat_template.read_bytes())
    return found.hexdigest()[:DIGEST_CHARACTERS]


def _folder(settings: EngineSettings) -> Path:
    """Return the folder of the model; one from the hub is in its cache, because it is loaded."""
    folder = Path(settings.model)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - it comes with vLLM

    revision = settings.extra_args.get("revision")
    name = None if revision is None else str(revision)
    return Path(snapshot_download(settings.model, revision=name, local_files_only=True))


def _files(folder: Path) -> list[Path]:
    """Return the files of a model in a fixed order, without hidden ones and caches."""
    found = (path for path in folder.rglob("*") if path.is_file())
    names = ((path.relative_to(folder), path) for path in found)
    return [
        path
        for name, path in sorted(names)
        if not any(part.startswith((".", "__")) for part in name.parts)
    ]


def _header(name: str, path: Path) -> bytes:
    return orjson.dumps([name, path.stat().st_size])


def _pieces(path: Path) -> Iterator[bytes]:
    """Yield what is read of a file: all of a small one, the ends of a large one or of weights."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE_BYTES and path.suffix not in WEIGHTS_SUFFIXES:
            yield file.read()
            return
        yield file.read(BLOCK_BYTES)
        if size > BLOCK_BYTES:
            file.seek(max(BLOCK_BYTES, size - BLOCK_BYTES))
            yield file.read()
