"""Generates the pages of the API reference from the OpenAPI document.

Invariant: the document is the only source. Every operation is on the page of its first tag, every
schema on the page of schemas, and a `$ref` becomes a link to it.
"""

# ruff: noqa: INP001 - MkDocs imports it by its path

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

METHODS = ("get", "post", "put", "patch", "delete")
#: The text in the table for each limit of a schema.
LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "pattern `{}`",
    "format": "format `{}`",
}


def pages(document: Json) -> dict[str, str]:
    """Return the pages of the reference.

    Args:
        document: An OpenAPI 3.1 document.

    Returns:
        The Markdown of each page by its file name, `index.md` first and `schemas.md` last.
    """
    tags = tagged(document)
    result = {"index.md": _index(document, tags)}
    for tag, operations in tags.items():
        parts = [f"# {title_of(tag)}", *(_operation(document, *one) for one in operations)]
        result[file_of(tag)] = "\n\n".join(parts) + "\n"
    result["schemas.md"] = _schemas(document)
    return result


def tagged(document: Json) -> dict[str, list[tuple[str, str, Json]]]:
    """Return (method, path, operation) of every operation, by its first tag in order of name."""
    found: dict[str, list[tuple[str, str, Json]]] = {}
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                tag = (operations[method].get("tags") or ["other"])[0]
                found.setdefault(tag, []).append((method, path, operations[method]))
    return dict(sorted(found.items()))


def title_of(tag: str) -> str:
    """Return a tag as a title."""
    return "OpenAI" if tag == "openai" else tag[:1].upper() + tag[1:]


def file_of(tag: str) -> str:
    """Return the file name of a tag's page."""
    return f"{_anchor(tag)}.md"


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _heading(level: int, text: str, anchor: str) -> str:
    return f"{'#' * level} {text} {{ #{anchor} }}"


def _index(document: Json, tags: dict[str, list[tuple[str, str, Json]]]) -> str:
    info = document["info"]
    schemes = document["components"].get("securitySchemes", {}).values()
    about = f"{info['title']} {info['version']}, OpenAPI {document['openapi']}."
    lines = [
        "# API reference",
        f"{about} Every installation serves the same document at `GET /openapi.json`.",
        *(f"Authorization: `{one['scheme'].title()}`, {one['description']}." for one in schemes),
    ]
    for tag, operations in tags.items():
        rows = [
            (
                f"[`{method.upper()} {path}`]({file_of(tag)}#{_anchor(f'{method} {path}')})",
                operation.get("description", ""),
            )
            for method, path, operation in operations
        ]
        lines += [f"## {title_of(tag)}", _table(("operation", "what it does"), rows)]
    return "\n\n".join(lines) + "\n"


def _operation(document: Json, method: str, path: str, operation: Json) -> str:
    route = f"{method} {path}"
    parts = [_heading(2, f"`{method.upper()} {path}`", _anchor(route))]
    parts.append(operation.get("description", "").strip())
    parts.append("Needs authorization." if operation.get("security") else "Open to all callers.")
    if operation.get("parameters"):
        parts += ["**Parameters**", _parameters(operation["parameters"])]
    if "requestBody" in operation:
        parts += ["**Body**", _contents(operation["requestBody"]["content"])]
    good: list[tuple[str, Json]] = []
    bad: list[tuple[str, Json]] = []
    for status, given in sorted(operation["responses"].items()):
        answer = _resolved(document, given)
        (bad if int(status) >= 400 else good).append((status, answer))
    parts.append("**Answers**")
    parts += [_answer(status, answer) for status, answer in good]
    if bad:
        parts += ["**Errors**", _errors(bad)]
    return "\n\n".join(part for part in parts if part)


def _resolved(document: Json, node: Json) -> Json:
    if "$ref" not in node:
        return node
    found: Json = document
    for name in node["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def _parameters(parameters: list[Json]) -> str:
    rows = [
        (
            f"`{one['name']}`",
            one["in"],
            _type(one["schema"]),
            "yes" if one.get("required") else "no",
            _join(one.get("description", ""), _limits(one["schema"])),
        )
        for one in parameters
    ]
    return _table(("name", "in", "type", "required", "meaning"), rows)


def _contents(contents: Json) -> str:
    parts = []
    for media, content in contents.items():
        schema = content.get("schema") or {}
        shown = _type(schema) if schema else "any"
        inline = schema.get("properties") and "$ref" not in schema
        parts.append(f"`{media}`" if inline else f"`{media}`: {shown}")
        if inline:
            parts.append(_properties(schema))
        examples = {name: one["value"] for name, one in content.get("examples", {}).items()}
        if "example" in content:
            examples["example"] = content["example"]
        parts += [_example(name, value) for name, value in examples.items()]
    return "\n\n".join(parts)


def _example(name: str, value: Any) -> str:
    title = "Example" if name == "example" else f"Example: {name.replace('_', ' ')}"
    if isinstance(value, str):
        language, text = "text", value.rstrip("\n")
    else:
        language, text = "json", json.dumps(value, indent=2, ensure_ascii=False)
    body = "\n".join(f"    {line}".rstrip() for line in f"```{language}\n{text}\n```".split("\n"))
    return f'??? example "{title}"\n\n{body}'


def _answer(status: str, answer: Json) -> str:
    parts = [f"`{status}`: {answer.get('description', '').strip() or 'done'}"]
    if answer.get("content"):
        parts.append(_contents(answer["content"]))
    return "\n\n".join(parts)


def _errors(answers: list[tuple[str, Json]]) -> str:
    rows = []
    for status, answer in answers:
        bodies = ", ".join(
            f"`{media}` {_type(content.get('schema', {}))}"
            for media, content in answer.get("content", {}).items()
        )
        headers = ", ".join(f"`{name}`" for name in answer.get("headers", {}))
        rows.append((status, answer["description"], bodies, headers))
    return _table(("status", "reason", "body", "headers"), rows)


def _schemas(document: Json) -> str:
    parts = ["# Schemas"]
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.append(_heading(2, short_name(name), _anchor(name)))
        if schema.get("description"):
            parts.append(_paragraphs(schema["description"]))
        if schema.get("properties"):
            parts.append(_properties(schema))
        elif "properties" not in schema:
            parts.append(_type(schema))
        if schema.get("additionalProperties") is False:
            parts.append("Other fields are refused.")
    return "\n\n".join(parts) + "\n"


def short_name(name: str) -> str:
    """Return a schema's name without the module that pydantic adds to one that is not unique."""
    module, _, last = name.rpartition("__")
    return f"{last} ({module.rpartition('__')[2].replace('_', ' ')})" if module else last


def _properties(schema: Json) -> str:
    needed = set(schema.get("required", ()))
    rows = [
        (
            f"`{name}`",
            _type(one),
            "yes" if name in needed else "no",
            _join(one.get("description", ""), _limits(one)),
        )
        for name, one in schema["properties"].items()
    ]
    return _table(("field", "type", "required", "meaning"), rows)


def _type(schema: Json) -> str:
    """Return a schema's type in one line of Markdown, with links to other schemas."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{short_name(name)}](schemas.md#{_anchor(name)})"
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[choice]))
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(one)}`" for one in schema["enum"])
    kind = str(schema.get("type") or "any")
    inner = schema.get("items" if kind == "array" else "additionalProperties")
    within = f" of {_type(inner)}" if isinstance(inner, dict) and inner else ""
    return ("list" if kind == "array" else kind) + within


def _limits(schema: Json) -> str:
    """Return default and bounds, for a nullable type those of the other type."""
    found: Json = {}
    for one in (*schema.get("anyOf", ()), schema):
        found |= one
    texts = [text.format(found[key]) for key, text in LIMITS.items() if key in found]
    if schema.get("default") is not None:
        texts.append(f"default `{json.dumps(schema['default'])}`")
    return ", ".join(texts)


def _join(meaning: str, limits: str) -> str:
    return "; ".join(part for part in (meaning.strip().rstrip("."), limits) if part)


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; columns that are empty in all rows are left out."""
    kept = [at for at in range(len(heads)) if any(row[at] for row in rows)]
    lines = [[heads[at] for at in kept], ["---"] * len(kept)]
    lines += [[" ".join(row[at].split()).replace("|", "\\|") for at in kept] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
