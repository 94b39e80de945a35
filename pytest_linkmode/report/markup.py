"""Markup that cannot be broken out of: every piece of text is escaped on its way in.

A `Markup` is text that has been escaped or was written by us; `tag` escapes whatever is not.
"""

from __future__ import annotations

import html
from collections.abc import Iterable


class Markup(str):
    """Text that stands in a page as it is."""

    __slots__ = ()


def escaped(value: object) -> Markup:
    """Return a value as it can stand in a page, in an attribute too; odd characters are shown."""
    if isinstance(value, Markup):
        return value
    text = "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode()
        for each in str(value)
    )
    return Markup(html.escape(text))


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """Return pieces one after the other, each escaped."""
    return Markup(escaped(between).join(map(escaped, parts)))


def tag(name: str, *content: object, **attributes: object) -> Markup:
    """Return an element. ``class_`` and ``data_edge`` are the attributes `class` and `data-edge`.

    An attribute that is None or false is left out; one that is true has no value.
    """
    words = [name]
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(attribute)
        elif value is not None and value is not False:
            words.append(f'{attribute}="{escaped(value)}"')
    opened = " ".join(words)
    if name in EMPTY:
        return Markup(f"<{opened}>")
    return Markup(f"<{opened}>{joined(content)}</{name}>")


EMPTY = frozenset({"br", "hr"})
