"""`@pytest.mark.settings(group__name=value)`: the settings of a test, its class or its module.

A whole group may be given as a dictionary: `@pytest.mark.settings(group={"name": value})`.

Invariant: a marker on a test or class whose fixtures do not read it fails the collection; of a
module's tests, some may ignore it.
"""

from collections.abc import Iterable
from typing import Any

import pytest

#: Settings by group, as `Settings` takes them.
Groups = dict[str, Any]

FIXTURE = "marked_settings"


def marked(node: pytest.Item) -> Groups:
    """Return the settings of a test's markers; the closest marker wins."""
    markers = reversed(list(node.iter_markers("settings")))
    return merged(
        *(_groups(name, value) for marker in markers for name, value in marker.kwargs.items())
    )


def merged(*several: Groups) -> Groups:
    """Merge settings; later ones win."""
    result: Groups = {}
    for groups in several:
        for group, values in groups.items():
            result[group] = {**result.get(group, {}), **values}
    return result


def _groups(name: str, value: Any) -> Groups:
    group, _, setting = name.partition("__")
    return {group: {setting: value} if setting else value}


def refuse_unread(items: Iterable[pytest.Item]) -> None:
    """Refuse tests with a marker that no fixture of theirs reads.

    Raises:
        pytest.UsageError: there are such tests.
    """
    unread = [
        item.nodeid
        for item in items
        for node, _ in item.iter_markers_with_node("settings")
        if not isinstance(node, pytest.Module) and FIXTURE not in getattr(item, "fixturenames", ())
    ]
    if unread:
        raise pytest.UsageError("no fixture reads the settings marker of " + ", ".join(unread))
