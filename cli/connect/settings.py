"""Loads the settings of a command; a wrong setting is a usage error that names its variable."""

from urllib.parse import urlsplit

from pydantic import SecretStr

from cli.connect.state_dir import PipelineState, StateDir
from cli.terminal.failures import UsageError
from core.settings.invalid_settings import InvalidSettings
from core.settings.tree import Settings, get_settings


def load_settings() -> Settings:
    """Return the settings of the environment and `.env`.

    Raises:
        UsageError: a setting is wrong; names each variable.
    """
    try:
        return get_settings()
    except InvalidSettings as error:
        raise UsageError("the settings are wrong", *error.lines) from None


def load_local_settings() -> Settings:
    """Return the settings; by default with the embedded Redis of this directory."""
    return settings_of(load_settings(), StateDir().read_state())


def settings_of(settings: Settings, state: PipelineState | None) -> Settings:
    """Return the settings with the Redis of the running pipeline, unless they name another.

    Without a pipeline it is the Redis of `penstock redis`, on the default port.
    """
    if "url" in settings.redis.model_fields_set:
        return settings
    if state is not None and not state.embedded_redis:
        url = f"redis://{state.redis}/0"
    else:
        default = urlsplit(settings.redis.url.get_secret_value()).netloc
        url = StateDir().redis_url(state.redis if state is not None else default)
    redis = settings.redis.model_copy(update={"url": SecretStr(url)})
    return settings.model_copy(update={"redis": redis})
