"""What the policies of modelled systems are written with.

A system's file lists where it falls back; `graph` adds that everything else stops it, and how
entries get their names, which is the reference linker's own affair whatever system it stands for:
those lines are REFERENCE's, on every platform that it has them for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from linker.conditions import Condition, Primitive, condition_of
from linker.modes import LinkMode
from linker.policies.reference import REFERENCE
from linker.policy import PRIMITIVES, Edge, Memory, Policy, Promise, State, Step, edges

LINUX, MACOS, WINDOWS = "linux", "macos", "windows"
EVERYWHERE = (LINUX, MACOS, WINDOWS)

Rows = tuple[Edge, ...]


def all_but(*conditions: Condition) -> tuple[Condition, ...]:
    """Return every condition but these and "exists", which says nothing of a mode."""
    return tuple(
        condition
        for condition in Condition
        if condition not in conditions and condition is not Condition.EXISTS
    )


def falls(
    platform: str,
    mode: LinkMode,
    then: LinkMode | Step,
    on: Iterable[Condition],
    *,
    state: State = State.ANY,
    memory: Memory | None = None,
) -> Rows:
    """Return the lines of one mode that meets these conditions."""
    return edges(platform, mode, PRIMITIVES[mode], on, then, state=state, memory=memory)


def stops(platform: str, mode: LinkMode, *, state: State = State.ANY) -> Rows:
    """Return the lines of a mode, in one state or in any, that knows of no other way."""
    return falls(platform, mode, Step.ABORT, all_but(), state=state)


def told_apart(
    platform: str,
    mode: LinkMode,
    then: LinkMode | Step,
    errors: Iterable[str],
    *,
    otherwise: Step = Step.ABORT,
    state: State = State.ANY,
    memory: Memory | None = None,
) -> Rows:
    """Return the lines for single errors, which the system tells from others that mean the same.

    They are named as on Linux. `otherwise` is what follows where they are to be tried once more.
    """
    primitive = PRIMITIVES[mode]
    return tuple(
        Edge(
            platform,
            mode,
            primitive,
            condition_of(LINUX, primitive, error),
            then,
            otherwise,
            state=state,
            error=error,
            memory=memory,
        )
        for error in errors
    )


def directories(platform: str) -> Rows:
    """Return the lines of a system that first clones whole directories, and else goes into them."""
    if platform != MACOS:
        return ()
    return edges(
        platform, LinkMode.CLONE, Primitive.CLONE_DIRECTORY, tuple(Condition), Step.DESCEND
    )


def graph(platform: str, *rows: Rows, replacing: bool = True) -> Rows:
    """Return the whole graph of a platform.

    What `rows` do not say stops the system, in each mode and state of which they say anything.
    Without `replacing`, a name that is taken is an error. A hard link of which something is missing
    is a failure of the mode as any other: no system asks whether it was the file or the directory.
    """
    told = [edge for row in rows for edge in row]
    known = {
        (edge.mode, edge.condition, edge.state)
        for edge in told
        if edge.mode is not None and edge.primitive is PRIMITIVES[edge.mode] and not edge.error
    }
    unsaid: list[Edge] = []
    for mode in PRIMITIVES:
        there = {edge.state for edge in told if edge.mode is mode}
        for state in sorted(there - {State.ANY}) or sorted(there):
            conditions = [
                condition
                for condition in all_but()
                if not {(mode, condition, state), (mode, condition, State.ANY)} & known
            ]
            unsaid += falls(platform, mode, Step.ABORT, conditions, state=state)
    names = [
        edge
        for edge in REFERENCE.of(platform)
        if edge.mode is None
        and (replacing or edge.then is not Step.REPLACE)
        and (edge.primitive, edge.condition) != (Primitive.HARDLINK, Condition.MISSING)
    ]
    return (*told, *unsaid, *names)


def modelled(
    name: str,
    source: str,
    rows: Callable[[str], Rows],
    default: LinkMode,
    *,
    defaults: Mapping[str, LinkMode] | None = None,
    memory: Memory = Memory.FILE,
    retries: int = 0,
    undo: bool = False,
    settles: Memory = Memory.FILE,
    restarts: bool = False,
    waives: frozenset[Promise] = frozenset(Promise),
) -> Policy:
    """Return the policy of a system, from what it does on each platform.

    What systems have in common is the default: one error is believed, nothing is tried twice or
    undone, and what the reference linker promises beside the mode is not.
    """
    return Policy(
        name=name,
        edges=tuple(edge for platform in EVERYWHERE for edge in rows(platform)),
        source=source,
        default=default,
        memory=memory,
        confirmations=1,
        retries=retries,
        undo=undo,
        defaults=defaults or {},
        settles=settles,
        restarts=restarts,
        waives=waives,
    )
