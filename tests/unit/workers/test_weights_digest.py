"""The digest of weights: what changes it, and what does not."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.settings.engine import TINY_MODEL, EngineSettings
from workers.engines import weights_digest as module
from workers.engines.weights_digest import weights_digest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY_MODEL, tmp_path / "model"))


def digest(model: Path, **fields: Any) -> str:
    return weights_digest(EngineSettings(model=str(model), **fields))


def change(path: Path, at: int) -> None:
    """Change one byte, and neither the size nor the time of the file."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_same_files_elsewhere_and_later_have_the_same_digest(
    model: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "elsewhere"))
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    (copy / ".cache").mkdir()
    (copy / ".cache" / "lock").write_text("x")

    assert digest(copy) == digest(model)
    assert len(digest(model)) == 16


@pytest.mark.parametrize("at", [0, 9, -1])
def test_other_weights_have_another_digest(model: Path, at: int) -> None:
    before = digest(model)

    change(next(model.glob("*.safetensors")), at)

    assert digest(model) != before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_another_configuration_or_tokenizer_has_another_digest(model: Path, name: str) -> None:
    before = digest(model)
    path = model / name

    change(path, path.stat().st_size // 2)

    assert digest(model) != before


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "float32"},
        {"quantization": "fp8"},
        {"task": "embed"},
        {"extra_args": {"hf_overrides": {"rope_theta": 1}}},
    ],
)
def test_arguments_that_change_the_output_change_the_digest(
    model: Path, fields: dict[str, Any]
) -> None:
    assert digest(model, **fields) != digest(model)


def test_another_chat_template_changes_the_digest(model: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.jinja", tmp_path / "b.jinja"
    first.write_text("{{ 1 }}")
    second.write_text("{{ 2 }}")

    assert (
        len({digest(model), *(digest(model, chat_template=path) for path in (first, second))}) == 3
    )


@pytest.mark.parametrize(
    "fields", [{"slots": 7}, {"served_name": "x"}, {"gpu_memory_utilization": 0.5}]
)
def test_arguments_that_do_not_change_the_output_do_not_matter(
    model: Path, fields: dict[str, Any]
) -> None:
    assert digest(model, **fields) == digest(model)


def test_of_a_large_weights_file_only_its_ends_are_read(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = next(model.glob("*.safetensors"))
    monkeypatch.setattr(module, "BLOCK_BYTES", 64)
    before = digest(model)

    change(weights, weights.stat().st_size // 2)
    assert digest(model) == before, "as documented"
    change(weights, -64)
    assert digest(model) != before
