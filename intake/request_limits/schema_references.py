"""Refuses JSON schemas whose references lead nowhere or never end.

A schema ends if some finite value satisfies it. Each schema needs several groups of others, and of
each group one that ends: a `$ref` needs its target, an object all its required properties, `anyOf`
any of its alternatives. What is found to end is propagated to whatever needs it, as for Horn
clauses (Dowling and Gallier 1984). Invariant: the time is in proportion to the schema's size.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from core.errors import InvalidJob
from intake.request_limits.json_schema import children

Schema = Mapping[str, Any]


def check_references(field: str, schema: Any) -> None:
    """Refuse a schema that cannot be satisfied by a finite value, or refers to what is not in it.

    Raises:
        InvalidJob: naming the field.
    """
    if not isinstance(schema, Mapping):
        return
    needs = {id(node): _needs(field, schema, node) for node in _reachable(field, schema)}
    if _ending(needs) != len(needs):
        text = "the JSON schema refers to itself without end: no finite value can satisfy it"
        raise InvalidJob(f"{field}: {text}", param=field)


def _reachable(field: str, root: Schema) -> Iterator[Schema]:
    """Yield each schema within the root, and each target of a reference, once."""
    seen: set[int] = set()
    left: list[Any] = [root]
    while left:
        node = left.pop()
        if not isinstance(node, Mapping) or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        left.extend(children(node))
        if isinstance(node.get("$ref"), str):
            left.append(_target(field, root, node["$ref"]))


def _needs(field: str, root: Schema, node: Schema) -> list[list[Any]]:
    """Return the groups of schemas of which one each must end for this schema to end."""
    if isinstance(node.get("$ref"), str):
        return [[_target(field, root, node["$ref"])]]
    if "const" in node or "enum" in node:
        return []
    groups = [node[name] for name in ("anyOf", "oneOf") if _filled(node.get(name))]
    if _filled(node.get("allOf")):
        groups += [[one] for one in node["allOf"]]
    properties, required = node.get("properties"), node.get("required")
    if node.get("type", "object") == "object" and isinstance(properties, Mapping):
        names = required if isinstance(required, list) else ()
        groups += [[properties[name]] for name in names if _names(properties, name)]
    least = node.get("minItems")
    if node.get("type", "array") == "array" and isinstance(least, int):
        first = node.get("prefixItems")
        groups += [[one] for one in first[:least]] if isinstance(first, list) else []
        if least > len(first if isinstance(first, list) else ()) and "items" in node:
            groups.append([node["items"]])
    return groups


def _filled(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _names(properties: Schema, name: Any) -> bool:
    return isinstance(name, str) and name in properties


def _ending(needs: Mapping[int, list[list[Any]]]) -> int:
    """Return how many schemas end."""
    waiting = {node: len(groups) for node, groups in needs.items()}
    needed_by: dict[int, list[tuple[int, int]]] = defaultdict(list)
    met: set[tuple[int, int]] = set()
    ready = [node for node, count in waiting.items() if not count]
    for node, groups in needs.items():
        for place, group in enumerate(groups):
            for one in group:
                if id(one) in needs:
                    needed_by[id(one)].append((node, place))
                elif (node, place) not in met:  # `true` and the like end at once
                    _meet(waiting, met, ready, (node, place))
    ended = 0
    while ready:
        ended += 1
        for user in needed_by[ready.pop()]:
            if user not in met:
                _meet(waiting, met, ready, user)
    return ended


def _meet(
    waiting: dict[int, int], met: set[tuple[int, int]], ready: list[int], group: tuple[int, int]
) -> None:
    met.add(group)
    node = group[0]
    waiting[node] -= 1
    if not waiting[node]:
        ready.append(node)


def _target(field: str, root: Schema, reference: str) -> Any:
    """Return what a reference such as `#/$defs/item` points to."""
    found: Any = root
    if reference not in ("#", "#/"):
        if not reference.startswith("#/"):
            raise _lost(field)
        for token in unquote(reference[2:]).split("/"):
            name = token.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdecimal() and int(name[:9]) < len(found):
                found = found[int(name[:9])]
            else:
                raise _lost(field)
    return found


def _lost(field: str) -> InvalidJob:
    text = "expected each $ref of the JSON schema to point within it, such as #/$defs/item"
    return InvalidJob(f"{field}: {text}", param=field)
