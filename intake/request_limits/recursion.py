"""Finds rules of a grammar that begin and end with themselves, such as `a ::= a a | "x"`.

Such a rule is ambiguous: three of its parts in a row have two derivations, and a parser's work
for each token grows with the square of the text. Invariant: the time is in proportion to the
number of symbols.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

#: An alternative's symbols: a rule's name, or None for text; and whether the symbol may be absent.
Alternative = list[tuple[str | None, bool]]
Rules = dict[str, list[Alternative]]


def doubly_recursive(rules: Rules) -> str | None:
    """Return the name of a rule that begins and ends with itself; None if there is none."""
    empty = _may_be_empty(rules)
    edges: dict[str, set[str]] = defaultdict(set)
    edges_back: dict[str, set[str]] = defaultdict(set)
    for name, alternatives in rules.items():
        for alternative in alternatives:
            edges[name].update(_edge(alternative, empty).values())
            edges_back[name].update(_edge(alternative[::-1], empty).values())
    left, right = _components(rules, edges), _components(rules, edges_back)
    for name, alternatives in rules.items():
        for alternative in alternatives:
            first = _edge(alternative, empty)
            last = _edge(alternative[::-1], empty)
            begins = [at for at, one in first.items() if _same(left, name, one)]
            ends = [
                len(alternative) - 1 - at for at, one in last.items() if _same(right, name, one)
            ]
            if begins and ends and min(begins) < max(ends):
                return name if not name.startswith("(") else _named(rules, name)
    return None


def _named(rules: Rules, group: str) -> str:
    """Return the rule with a name that a group belongs to; groups follow their rule."""
    names = list(rules)
    before = names[: names.index(group)]
    return next(name for name in reversed(before) if not name.startswith("("))


def _same(component: Mapping[str, int], one: str, other: str) -> bool:
    return other in component and component[one] == component[other]


def _edge(alternative: Alternative, empty: set[str]) -> dict[int, str]:
    """Return the rules with which an alternative may begin, by their place."""
    found: dict[int, str] = {}
    for at, (name, optional) in enumerate(alternative):
        if name is not None:
            found[at] = name
        if not optional and (name is None or name not in empty):
            break
    return found


def _may_be_empty(rules: Rules) -> set[str]:
    """Return the rules that may stand for no text."""
    users: dict[str, list[tuple[str, int]]] = defaultdict(list)
    missing: dict[tuple[str, int], int] = {}
    found: set[str] = set()
    ready: list[str] = []
    for rule, alternatives in rules.items():
        for place, alternative in enumerate(alternatives):
            needed = [name for name, optional in alternative if not optional]
            missing[rule, place] = len(needed)
            for name in needed:
                if name is not None:
                    users[name].append((rule, place))
            if not needed and rule not in found:
                found.add(rule)
                ready.append(rule)
    while ready:
        for user in users[ready.pop()]:
            missing[user] -= 1
            if not missing[user] and user[0] not in found:
                found.add(user[0])
                ready.append(user[0])
    return found


def _components(rules: Iterable[str], edges: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the number of each rule's strongly connected component (Kosaraju)."""
    order: list[str] = []
    seen: set[str] = set()
    for rule in rules:
        _walk(rule, edges, seen, order)
    back: dict[str, set[str]] = defaultdict(set)
    for rule, targets in edges.items():
        for target in targets:
            back[target].add(rule)
    component: dict[str, int] = {}
    visited: set[str] = set()
    for number, rule in enumerate(reversed(order)):
        members: list[str] = []
        _walk(rule, back, visited, members)
        component.update(dict.fromkeys(members, number))
    return component


def _walk(start: str, edges: Mapping[str, set[str]], seen: set[str], order: list[str]) -> None:
    """Add what can be reached and was not seen, each after what it leads to."""
    if start in seen:
        return
    seen.add(start)
    path = [(start, iter(edges.get(start, ())))]
    while path:
        rule, targets = path[-1]
        target = next((one for one in targets if one not in seen), None)
        if target is None:
            order.append(rule)
            path.pop()
        else:
            seen.add(target)
            path.append((target, iter(edges.get(target, ()))))
