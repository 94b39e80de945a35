"""A schedule as people read it: each actor's calls in a column of its own, in order of time."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pytest_linkmode.interleave.search import Shared
from pytest_linkmode.interleave.world import Event, Execution

WIDTH = 44
"""Columns of one actor."""


def side_by_side(execution: Execution, roots: Sequence[str], *, everything: bool = False) -> str:
    """Return the calls of all actors in order of time, one column each.

    Calls that nobody else could notice are counted, not shown, unless `everything` is.
    """
    shared = Shared()
    shared.learn(execution.events)
    lines = [_line(range(len(execution.actors)), list(execution.actors)).rstrip()]
    lines.append("-+-".join("-" * WIDTH for _ in execution.actors))
    hidden: dict[int, int] = {}

    def flush(actor: int) -> None:
        count = hidden.pop(actor, 0)
        if count:
            lines.append(_one(execution, actor, f"({count} of its own)"))

    for place, event in enumerate(execution.events):
        if place and event.actor != execution.events[place - 1].actor:
            flush(execution.events[place - 1].actor)
        if everything or event.error or shared.concerns(event):
            flush(event.actor)
            lines.append(_one(execution, event.actor, called(event, roots)))
        else:
            hidden[event.actor] = hidden.get(event.actor, 0) + 1
    for actor in list(hidden):
        flush(actor)
    for actor, outcome in enumerate(execution.outcomes):
        if outcome.error is not None:
            lines.append(_one(execution, actor, f"ends: {type(outcome.error).__name__}"))
    return "\n".join(lines)


def called(event: Event, roots: Sequence[str]) -> str:
    """Return one call in words."""
    said = f"{event.name} {' -> '.join(relative(path, roots) for path in event.paths)}"
    return f"{said} = {event.error}" if event.error else said


def relative(path: str, roots: Sequence[str]) -> str:
    """Return a path as seen from where the actors meet."""
    for root in roots:
        if path == root:
            return "." if len(roots) == 1 else os.path.basename(root)
        if path.startswith(root.rstrip("/") + "/"):
            above = root if len(roots) == 1 else os.path.dirname(root)
            return path[len(above.rstrip("/")) + 1 :]
    return path


def _one(execution: Execution, actor: int, text: str) -> str:
    texts = [""] * len(execution.actors)
    texts[actor] = text
    return _line(range(len(texts)), texts).rstrip()


def _line(columns: Sequence[int], texts: Sequence[str]) -> str:
    return " | ".join(_cut(texts[column]).ljust(WIDTH) for column in columns)


def _cut(text: str) -> str:
    if len(text) <= WIDTH:
        return text
    verb, _, rest = text.partition(" ")
    keep = WIDTH - len(verb) - 2
    return f"{verb} …{rest[-keep:]}"
