"""A fallback graph as people and programs read it: a table, DOT, Mermaid, plain data.

Everything is made from the edges of the policy, so that what is shown is what is done. Edges that
lead to the same step are one row, or one arrow, with all their conditions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from linker.conditions import Condition
from linker.modes import LinkMode
from linker.policy import PRIMITIVES, Edge, Memory, Policy, State, Step

ANY_MODE = "any mode"
"""What a row of edges that hold in every mode is called."""

_MEMORY = {
    Memory.FILE: "is forgotten with the file",
    Memory.PAIR: "holds for that pair of filesystems",
    Memory.TREE: "holds for the rest of the tree",
    Memory.PROCESS: "holds for the rest of the process",
}


@dataclass(frozen=True)
class Row:
    """Edges that differ in their conditions only."""

    mode: LinkMode | None
    primitive: str
    state: State
    conditions: tuple[str, ...]
    then: LinkMode | Step
    otherwise: LinkMode | Step
    memory: Memory | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The conditions, or those that are not among them, if that is shorter."""
        others = [str(each) for each in Condition if each not in self.conditions]
        if len(others) >= len(self.conditions):
            return self.conditions
        return ("all but " + others[0], *others[1:]) if others else ("all",)

    @property
    def steps(self) -> tuple[LinkMode | Step, ...]:
        """What is done next, and after that."""
        if self.then is Step.RETRY and self.otherwise is not Step.RETRY:
            return (self.then, self.otherwise)
        return (self.then,)


def rows(policy: Policy, platform: str) -> list[Row]:
    """Return the graph of one platform, in the order of its edges."""
    grouped: dict[tuple[object, ...], list[Edge]] = {}
    for edge in policy.of(platform):
        key = (edge.mode, edge.primitive, edge.state, edge.then, edge.otherwise, edge.memory)
        grouped.setdefault(key, []).append(edge)
    return [
        Row(
            edges[0].mode,
            str(edges[0].primitive),
            edges[0].state,
            tuple(edge.meets for edge in edges),
            edges[0].then,
            edges[0].otherwise,
            edges[0].memory,
        )
        for edges in grouped.values()
    ]


def facts(policy: Policy, platform: str) -> list[str]:
    """Return in sentences what a policy does beside its edges."""
    many = policy.confirmations
    failed = "one file failed" if many == 1 else f"{many} different files failed alike"
    retries = {0: "no retries", 1: "at most one retry"}
    return [
        f"source: {policy.source}",
        f"default mode: {policy.default_on(platform)}",
        f"a mode is given up when {failed}, and that {_MEMORY[policy.memory]}",
        retries.get(policy.retries, f"at most {policy.retries} retries"),
        "a failure puts the target back as it was" if policy.undo else "a failure undoes nothing",
        *(["a mode is established by a whole tree"] if policy.settles is not Memory.FILE else []),
        *(["a fallback links the tree again from its first file"] if policy.restarts else []),
        "does not promise: " + (", ".join(sorted(policy.waives)) or "nothing, it promises it all"),
    ]


def table(policy: Policy, platform: str) -> list[tuple[str, ...]]:
    """Return the graph as rows of a table, the first of which is its head."""
    lines: list[tuple[str, ...]] = [("mode", "primitive", "state", "meets", "then")]
    last: tuple[str, str] = ("", "")
    for row in rows(policy, platform):
        where = (str(row.mode or ANY_MODE), row.primitive)
        shown = ("", "") if where == last else where
        last = where
        state = "" if row.state is State.ANY else str(row.state)
        for number, conditions in enumerate(folded(row.words)):
            then = _then(row) if number == 0 else ""
            lines.append((*shown, state, conditions, then))
            shown, state = ("", ""), ""
    return lines


def _then(row: Row) -> str:
    """Return where a row leads, and how far that reaches where it is the row's own affair."""
    steps = ", then ".join(map(str, row.steps))
    return steps if row.memory is None else f"{steps} (for that {row.memory})"


def folded(conditions: tuple[str, ...], width: int = 56) -> list[str]:
    """Return a list of words as lines that are not too wide."""
    lines: list[str] = [conditions[0]]
    for word in conditions[1:]:
        if len(lines[-1]) + len(word) > width:
            lines[-1] += ","
            lines.append(word)
        else:
            lines[-1] += f", {word}"
    return lines


def _arrows(policy: Policy, platform: str) -> Iterator[tuple[str, str, str]]:
    """Yield (from, to, label) for each row: modes lead to modes, other primitives to steps.

    A primitive that leads on in any mode is told from the mode of its name, and named where it is
    not what makes a file in that mode.
    """
    modes = set(map(str, LinkMode))
    for row in rows(policy, platform):
        behind = f"{row.state}: " if row.state is not State.ANY else ""
        if row.mode is None:
            start = f"any-{row.primitive}" if row.primitive in modes else row.primitive
        else:
            start = str(row.mode)
            if row.primitive != PRIMITIVES[row.mode]:
                behind = f"{row.primitive}: {behind}"
        label = ", ".join(row.words)
        for number, step in enumerate(row.steps):
            yield start, str(step), f"{behind}{'still ' * number}{label}"


def dot(policy: Policy, platform: str) -> str:
    """Return the graph for Graphviz."""
    lines = [f'digraph "{policy.name} on {platform}" {{', "  rankdir=LR;"]
    lines += [f'  "{mode}" [shape=box];' for mode in LinkMode]
    lines += [
        f'  "{start}" -> "{end}" [label="{label}"];'
        for start, end, label in _arrows(policy, platform)
    ]
    return "\n".join([*lines, "}"])


def mermaid(policy: Policy, platform: str) -> str:
    """Return the graph for Mermaid, as Markdown shows it."""
    lines = ["flowchart LR"]
    lines += [f'  {mode.value}["{mode}"]' for mode in LinkMode]
    lines += [
        f'  {start} -- "{label}" --> {end}' for start, end, label in _arrows(policy, platform)
    ]
    return "\n".join(lines)


def plain(policy: Policy, platform: str) -> dict[str, Any]:
    """Return the graph as JSON has it: ``linkmode-policy``, version 1."""
    return {
        "format": "linkmode-policy",
        "version": 1,
        "name": policy.name,
        "platform": platform,
        "source": policy.source,
        "default": policy.default_on(platform).value,
        "memory": policy.memory.value,
        "confirmations": policy.confirmations,
        "retries": policy.retries,
        "undo": policy.undo,
        "settles": policy.settles.value,
        "restarts": policy.restarts,
        "waives": sorted(policy.waives),
        "edges": [
            {
                "id": edge.id,
                "mode": edge.mode.value if edge.mode else None,
                "primitive": str(edge.primitive),
                "condition": str(edge.condition),
                "error": edge.error or None,
                "memory": edge.memory.value if edge.memory else None,
                "scope": str(edge.condition.scope),
                "state": str(edge.state),
                "then": str(edge.then),
                "otherwise": str(edge.otherwise) if edge.then is Step.RETRY else None,
            }
            for edge in policy.of(platform)
        ],
    }
