"""vLLM opens no URL that a client sends, and a loaded model tells which media it takes."""

import base64
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from vllm.config import ModelConfig
from vllm.multimodal.media import MediaConnector

from core.errors import EngineError, InvalidJob
from core.settings.engine import TINY_MODEL, EngineSettings
from tests.contract.conftest import Engines
from tests.contract.driver import CHAT, chat
from tests.support.listening import ForbiddenServer
from workers.engines.base import Generation
from workers.engines.vllm.config import engine_config
from workers.engines.vllm.environment import prepare_environment
from workers.engines.vllm.rejections import rejections
from workers.engines.vllm.supported_media import modalities

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::FutureWarning:vllm.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("kind", ["image_url", "video_url", "audio_url"])
async def test_a_text_model_refuses_media_before_anything_is_fetched(
    engines: Engines, kind: str
) -> None:
    driver = await engines.get("in-process")
    with ForbiddenServer() as server:
        for url in (server.url, "file:///etc/hostname"):
            parts = [{"type": "text", "text": "hi"}, {"type": kind, kind: {"url": url}}]
            body = {**chat("x"), "messages": [{"role": "user", "content": parts}]}
            with pytest.raises(InvalidJob) as refused:
                await driver.add(body)
            assert refused.value.param == "messages[0].content[1]"
        assert server.untouched


def test_vllm_itself_opens_no_url(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"no picture")
    extra = {"allowed_media_domains": ["127.0.0.1"], "allowed_local_media_path": str(tmp_path)}
    model = engine_config(EngineSettings(max_model_len=256, extra_args=extra)).model_config
    connector = MediaConnector(
        allowed_local_media_path=model.allowed_local_media_path,
        allowed_media_domains=model.allowed_media_domains,
    )
    with ForbiddenServer() as server:
        for url in (server.url, picture.as_uri()):
            with pytest.raises((ValueError, RuntimeError)):
                connector.fetch_image(url)
        assert server.untouched


@pytest.mark.parametrize("side", [6_000, 20_000])
def test_an_image_with_too_many_pixels_is_refused_before_it_is_decompressed(side: int) -> None:
    prepare_environment(EngineSettings())
    with BytesIO() as file:
        Image.new("1", (side, side)).save(file, "PNG")
        url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    assert len(url) < 700_000

    body = chat([{"type": "image_url", "image_url": {"url": url}}])
    with pytest.raises(InvalidJob) as refused, rejections(Generation("g", CHAT, body)):
        MediaConnector().fetch_image(url)
    assert ("pixels" in refused.value.message) is (side == 6_000)


def test_media_that_cannot_be_read_are_the_requests_own_failure() -> None:
    part = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    body = chat([{"type": "text", "text": "x"}, part])
    with pytest.raises(InvalidJob) as refused, rejections(Generation("g", CHAT, body)):
        raise RuntimeError("Error opening a sound file: Format not recognised.")
    assert refused.value.param == "messages[0].content[1]"

    with pytest.raises(EngineError), rejections(Generation("g", CHAT, chat("x"))):
        raise RuntimeError("a bug")


def test_the_modalities_of_a_text_model_are_read_from_its_configuration() -> None:
    assert modalities(ModelConfig(model=str(TINY_MODEL))) == ("text",)
