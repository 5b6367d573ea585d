"""Parts of every settings group: strict models, lists, and sources of values.

Invariant: a value that cannot be decoded reaches its field, and a variable that is not a setting
reaches the tree, so that the error names the variable.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource


class SettingsGroup(BaseModel):
    """A nested group: unknown fields are errors, values are fixed after start."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _read_list(value: Any) -> Any:
    if isinstance(value, int):  # one number is valid JSON
        return [value]
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        return json.loads(text)
    return [item.strip() for item in text.split(",")] if text else []


#: Reads a list from JSON text, or from comma-separated text, which was the syntax before.
COMMA_SEPARATED_TOO = BeforeValidator(_read_list)


def health_host(process: str) -> Any:
    """Return the field for the address on which a process answers probes and `/metrics`."""
    text = f"Address on which the {process} answers health probes and `/metrics`."
    return Field(default="127.0.0.1", description=text)


def health_port(process: str, port: int) -> Any:
    """Return the field for the port that belongs to `health_host`."""
    text = f"Port on which the {process} answers health probes and `/metrics`; 0: any free port."
    return Field(default=port, ge=0, le=65535, description=text)


class _UndecodedOnError:
    """Pass on text that is not JSON: the field's own validation then names the variable."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Return the decoded value, or the text itself where it is not JSON."""
        try:
            return super().decode_complex_value(field_name, field, value)  # type: ignore[misc]
        except ValueError:
            return value


#: Not settings, but variables with our prefix: of the commands, and of docker-compose.yml.
NOT_SETTINGS = frozenset(
    {"PENSTOCK_URL", "PENSTOCK_KEY", "PENSTOCK_API_KEY", "PENSTOCK_TAG", "PENSTOCK_PUBLISH"}
)
COMPOSE_PREFIX = "PENSTOCK_COMPOSE_"
#: What Kubernetes adds to a service's name for each of its variables.
SERVICE_VARIABLE = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$"
)


class EnvironmentSource(_UndecodedOnError, EnvSettingsSource):
    """The variables of the environment; those with our prefix that are no setting are errors."""

    def __call__(self) -> dict[str, Any]:
        """Return the values by group, and each variable that is not a setting under its name."""
        return {**super().__call__(), **dict.fromkeys(self._unknown())}

    def _unknown(self) -> list[str]:
        ours = [name for name in self.env_vars if name.startswith(self.env_prefix.lower())]
        hosts = [name for name in self.env_vars if name.endswith("_service_host")]
        services = tuple(host.removesuffix("_service_host") for host in hosts)
        return [
            name
            for name in ours
            if not _is_foreign(name)
            and _group(name, self.env_prefix) not in self.settings_cls.model_fields
            and SERVICE_VARIABLE.sub("", name.upper()).lower() not in services
        ]


class DotEnvSource(_UndecodedOnError, DotEnvSettingsSource):
    """The lines of `.env` with our prefix: Docker Compose keeps its passwords in the same file."""

    def _read_env_files(self) -> Mapping[str, str | None]:
        prefix = self.env_prefix.lower()
        return {
            name: value
            for name, value in super()._read_env_files().items()
            if name.lower().startswith(prefix) and not _is_foreign(name)
        }


def _is_foreign(name: str) -> bool:
    """Return whether a variable with our prefix belongs to a command or to Docker Compose."""
    return name.upper() in NOT_SETTINGS or name.upper().startswith(COMPOSE_PREFIX)


def _group(name: str, prefix: str) -> str:
    return name[len(prefix) :].partition("__")[0].lower()
