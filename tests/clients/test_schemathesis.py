"""Every answer, to valid and invalid requests, is one that the OpenAPI document declares.

Schemathesis makes the requests from the document, so routes added later are tried as well.
"""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case, checks
from schemathesis.specs.openapi import checks as openapi_checks

from api.app import create_app
from core.settings.tree import Settings
from tests.clients.conftest import Service
from tests.support.simulated import MODEL

#: Endless streams, and routes that would disturb the test's own server.
LEFT_OUT = r"^/(metrics|docs|redoc)"
EXAMPLES = 4

schema = schemathesis.openapi.from_dict(create_app(Settings(_env_file=None)).openapi())


@schema.hook
def map_body(context: Any, body: Any) -> Any:
    """Ask the model that is served, and for little."""
    del context
    if isinstance(body, dict):
        for asked in (body, body.get("body")):
            if isinstance(asked, dict) and isinstance(asked.get("model"), str):
                asked["model"] = MODEL
                for limit in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
                    if asked.get(limit):
                        asked[limit] = 3
    return body


@schema.exclude(path_regex=LEFT_OUT).parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_declared(case: Case[Any], service: Service) -> None:
    case.call_and_validate(
        base_url=service.url.removesuffix("/v1"),
        headers={"Authorization": f"Bearer {service.key}"},
        timeout=30,
        checks=[
            checks.not_a_server_error,
            openapi_checks.status_code_conformance,
            openapi_checks.content_type_conformance,
            openapi_checks.response_headers_conformance,
            openapi_checks.response_schema_conformance,
        ],
    )
