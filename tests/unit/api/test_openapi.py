"""The OpenAPI document agrees with the code and with its reviewed copy."""

import json
from typing import Any

import jsonschema
import pytest

from api.http.error_handlers import is_openai_path
from api.openapi.descriptions import FIELDS, PARAMETERS, SUBMISSIONS, schema_properties
from api.openapi.examples import ANSWERS, OPENAI_ERROR, PROBLEM_EXAMPLE, REQUESTS
from api.openapi.route_docs import BODIES
from tests.support.openapi import SNAPSHOT, document

DOCUMENT = document()
METHODS = {"get", "post", "put", "patch", "delete"}
OPERATIONS = [
    (method, path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
IDS = [f"{method} {path}" for method, path, _ in OPERATIONS]


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that can be used by itself."""
    return {**schema, "components": DOCUMENT["components"]}


def test_no_field_parameter_or_header_lacks_a_description() -> None:
    fields = [
        name
        for properties in schema_properties(DOCUMENT)
        for name, field in properties.items()
        if not field.get("description")
    ]
    parameters = [
        (path, parameter["name"])
        for _, path, operation in OPERATIONS
        for parameter in operation.get("parameters", ())
        if not parameter.get("description")
    ]
    assert (fields, parameters) == ([], [])


def test_the_tables_of_descriptions_have_no_name_that_nothing_has() -> None:
    names = {name for properties in schema_properties(DOCUMENT) for name in properties}
    names |= {p["name"] for _, _, op in OPERATIONS for p in op.get("parameters", ())}
    assert set(FIELDS) | set(PARAMETERS) <= names


def test_no_model_is_named_after_its_module() -> None:
    assert [name for name in DOCUMENT["components"]["schemas"] if "__" in name] == []


def test_the_cost_of_a_job_has_its_parts() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["Job"]["properties"]["cost"]["anyOf"][0] == {
        "$ref": "#/components/schemas/CostObject"
    }
    assert {"total", "currency"} <= set(schemas["CostObject"]["properties"])


@pytest.mark.parametrize("path", sorted(SUBMISSIONS))
def test_a_submission_declares_its_request_headers(path: str) -> None:
    declared = DOCUMENT["paths"][path]["post"]["parameters"]
    headers = {one["name"] for one in declared if one["in"] == "header"}
    assert headers == {"Idempotency-Key", "Prefer", "X-On-Disconnect"}
    batches = DOCUMENT["paths"]["/v1/batches"]["post"]["parameters"]
    assert "Idempotency-Key" in {one["name"] for one in batches}


def test_changes_of_the_contract_are_seen_in_review() -> None:
    kept = json.loads(SNAPSHOT.read_text())
    assert kept == DOCUMENT, "run `make openapi` and look at what changed"


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(DOCUMENT)
    for part in text.split('"$ref": "')[1:]:
        found: Any = DOCUMENT
        for name in part.partition('"')[0].removeprefix("#/").split("/"):
            found = found[name]


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=IDS)
def test_every_error_is_declared_in_the_shape_of_its_route(
    method: str, path: str, operation: dict[str, Any]
) -> None:
    assert method in METHODS
    responses = operation["responses"]
    for status, reference in responses.items():
        if int(status) < 400:
            continue
        response = DOCUMENT["components"]["responses"][reference["$ref"].rpartition("/")[2]]
        media = "application/json" if is_openai_path(path) else "application/problem+json"
        assert list(response["content"]) == [media], (status, response)
        if status in ("429", "503"):
            assert "Retry-After" in response["headers"]
    if path.startswith("/v1/") and operation.get("security"):
        assert {"401", "403", "500", "503"} <= set(responses)
    if "requestBody" in operation:
        assert {"400", "408", "413"} <= set(responses)


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=IDS)
def test_every_route_says_what_it_does(method: str, path: str, operation: dict[str, Any]) -> None:
    del method, path
    assert operation["description"].strip()
    assert [status for status in operation["responses"] if status < "300"]


@pytest.mark.parametrize(
    ("name", "example"),
    [(name, one) for name, examples in REQUESTS.items() for one in examples.values()],
)
def test_examples_of_bodies_are_accepted(name: str, example: dict[str, Any]) -> None:
    BODIES[name].model_validate(example)
    schema = {"$ref": f"#/components/schemas/{name}"}
    jsonschema.Draft202012Validator(resolved(schema)).validate(example)


@pytest.mark.parametrize(("route", "answer"), ANSWERS.items())
def test_examples_of_answers_fit_their_schemas(
    route: str, answer: tuple[str, dict[str, Any]]
) -> None:
    method, path = route.split()
    name, example = answer
    assert DOCUMENT["paths"][path][method.lower()]
    schema = {"$ref": f"#/components/schemas/{name}"}
    jsonschema.Draft202012Validator(resolved(schema)).validate(example)


@pytest.mark.parametrize(
    ("name", "example"), [("Problem", PROBLEM_EXAMPLE), ("OpenAiError", OPENAI_ERROR)]
)
def test_examples_of_errors_fit_their_schemas(name: str, example: dict[str, Any]) -> None:
    schema = {"$ref": f"#/components/schemas/{name}"}
    jsonschema.Draft202012Validator(resolved(schema)).validate(example)
