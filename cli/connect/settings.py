"""Loads the settings for a command; a wrong one is a usage error that names the variable."""

from pydantic import SecretStr

from cli.connect.state_dir import PipelineState, StateDir
from cli.terminal.failures import UsageError
from core.settings.errors import InvalidSettings
from core.settings.tree import Settings, get_settings


def load_settings() -> Settings:
    """Read the environment and `.env`.

    Raises:
        UsageError: naming each wrong variable.
    """
    try:
        return get_settings()
    except InvalidSettings as error:
        raise UsageError("the settings are wrong", *error.lines) from None


def load_local_settings() -> Settings:
    """Read them; where they name no Redis, it is the one that `penstock up` runs here."""
    return settings_of(load_settings(), StateDir().read_state())


def settings_of(settings: Settings, state: PipelineState | None) -> Settings:
    """Return them with the Redis of the pipeline that runs here, unless they name another."""
    if state is None or "url" in settings.redis.model_fields_set:
        return settings
    redis = settings.redis.model_copy(update={"url": SecretStr(f"redis://{state.redis}/0")})
    return settings.model_copy(update={"redis": redis})
